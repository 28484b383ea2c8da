"""What a training will take: closed forms, and torch's own count of a small model's operations."""

from __future__ import annotations

from typing import Any

import pytest

from innerloop.outer.estimate import Build, Memory, Work, build_of, forward, memory, training
from innerloop.outer.meta.cost import Sizes

BUILD = Build(
    parameters=120,
    trained=120,
    sizes=Sizes(all=100, trained=100, reached=100, reached_trained=100, adapted=100),
    layers=3,
    width=8,
    attention=6,
    keys=2,
    mlp=10,
    vocabulary=50,
)


def test_flops_in_closed_form() -> None:
    assert forward(BUILD, [4, 1]) == Work(tokens=5, matrices=2 * 100 * 5, attention=4 * 3 * 6 * (10 + 1))
    assert training(BUILD, [4, 1]) == Work(tokens=5, matrices=6 * 100 * 5, attention=3 * 4 * 3 * 6 * 11)
    assert forward(BUILD, [4]).times(3).flops == 3 * (800 + 720)
    assert forward(BUILD, []).flops == 0


def test_memory_in_closed_form() -> None:
    block = 6 * 8 + 3 * 6 + 2 * 2 + 4 * 10
    held = memory(BUILD, tokens=7, bytes_each=4, checkpointing=False, logits=True, copied=120)
    assert held == Memory(
        weights=480, gradients=480, optimiser=960, copies=480, activations=7 * 4 * (3 * block + 2 * 50)
    )
    assert held.total == 2400 + held.activations
    assert held.shared(7) == 343 + held.activations
    kept = memory(BUILD, tokens=7, bytes_each=2, checkpointing=True, logits=False)
    assert kept.activations == 7 * 2 * (3 * 8 + block)


@pytest.fixture(scope="module")
def model() -> Any:
    from innerloop.outer.init import fresh

    made, _ = fresh("tiny", "characters", 0)
    made.set_attn_implementation("eager")  # whose products torch counts, the masked half too
    return made.train()


@pytest.mark.model
def test_torch_counts_the_same_operations(model: Any) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    length = 37
    build = build_of(model)
    masked = 4 * build.layers * build.attention * (length * length - length * (length + 1) // 2)
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.ones(1, length, dtype=torch.long)).logits
    assert counter.get_total_flops() == forward(build, [length]).flops + masked
    with FlopCounterMode(display=False) as counter:
        logits.sum().backward()
    assert counter.get_total_flops() == training(build, [length]).flops - forward(build, [length]).flops + 2 * masked


@pytest.mark.model
def test_the_activations_are_about_what_autograd_keeps(model: Any) -> None:
    import torch

    kept: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage()
        if place.data_ptr() not in own:
            kept[place.data_ptr()] = place.nbytes()
        return tensor

    model.set_attn_implementation("sdpa")
    ids = torch.ones(2, 200, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    model.set_attn_implementation("eager")
    estimated = memory(build_of(model), tokens=400, bytes_each=4, checkpointing=False, logits=True).activations
    assert loss.requires_grad
    assert 0.6 < estimated / sum(kept.values()) < 1.5


@pytest.mark.model
def test_a_skeleton_is_built_as_the_model_is(model: Any, tmp_path: Any) -> None:
    from innerloop import SftSettings
    from innerloop.outer.init import fresh, save
    from innerloop.verbs.train.planning import skeleton

    save(*fresh("tiny", "characters", 0), tmp_path / "m")
    bare = skeleton(SftSettings(model=str(tmp_path / "m")))
    assert build_of(bare) == build_of(model)
    assert {weight.device.type for weight in bare.parameters()} == {"meta"}
    adapted = build_of(skeleton(SftSettings(model=str(tmp_path / "m"), lora=2)))
    assert adapted.trained == adapted.parameters - build_of(model).parameters
    assert adapted.sizes.trained == adapted.trained

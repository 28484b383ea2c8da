"""The gradient on n of G rollouts is the gradient on all of them, averaged over the choices of n."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.model

GROUP, PROMPT, LENGTH = 4, 5, 7
LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from innerloop.outer.grpo import Subset, grpo_trainer
    from innerloop.outer.init import fresh, save

    folder = tmp_path_factory.mktemp("grpo")
    model, tokenizer = fresh("tiny", "characters", 0)
    save(model, tokenizer, folder / "m")
    model.config._name_or_path = str(folder / "m")
    return grpo_trainer(
        model,
        tokenizer,
        [{"prompt": "1+1=?", "question_id": "q"}],
        {"1+1=?": [1, 2, 3]},
        lambda **_: [0.0],
        {
            "output_dir": str(folder / "out"),
            "per_device_train_batch_size": GROUP,
            "num_generations": GROUP,
            "max_completion_length": LENGTH,
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
            "report_to": "none",
        },
        subset=Subset(n=2),
    )


def rollouts() -> dict[str, Any]:
    """One group of rollouts of different lengths, as TRL hands it on."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(GROUP, LENGTH, dtype=torch.long)
    for row, length in enumerate((7, 2, 5, 4)):
        mask[row, :length] = 1
    return {
        "prompt_ids": torch.randint(0, 90, (GROUP, PROMPT), generator=generator),
        "prompt_mask": torch.ones(GROUP, PROMPT, dtype=torch.long),
        "completion_ids": torch.randint(0, 90, (GROUP, LENGTH), generator=generator),
        "completion_mask": mask,
        "advantages": torch.tensor([1.5, -0.5, -1.2, 0.2]),
        "old_per_token_logps": -4.6 + 0.05 * torch.randn(GROUP, LENGTH, generator=generator),
        "ref_per_token_logps": -4.6 + 0.3 * torch.randn(GROUP, LENGTH, generator=generator),
        "num_items_in_batch": mask.sum(),
    }


def gradient(trainer: Any, inputs: dict[str, Any]) -> torch.Tensor:
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, inputs).backward()
    return torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])


@pytest.mark.parametrize("kl", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_over_all_choices_is_the_whole(
    trainer: Any, loss: str, kl: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from innerloop.outer.grpo import drop

    monkeypatch.setattr(trainer, "loss_type", loss)
    monkeypatch.setattr(trainer, "beta", kl)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    everything = rollouts()
    trainer._expected_tokens = everything["completion_mask"].sum().item()
    monkeypatch.setattr(trainer, "num_generations", 2)  # then n = G: TRL's own loss
    whole = gradient(trainer, everything)
    monkeypatch.setattr(trainer, "num_generations", GROUP)
    trainer._expected_tokens = everything["completion_mask"].sum().item() / 2
    parts = [gradient(trainer, drop(everything, kept, 0.5)) for kept in combinations(range(GROUP), 2)]
    mean = torch.stack(parts).mean(dim=0)
    assert whole.norm() > 1e-4
    torch.testing.assert_close(mean, whole, atol=1e-6 * float(whole.abs().max()) + 1e-9, rtol=1e-4)
    assert max(float((part - whole).norm() / whole.norm()) for part in parts) > 0.1  # a single choice is another one


def test_a_rollout_that_was_not_chosen_contributes_nothing(trainer: Any) -> None:
    from innerloop.outer.grpo import drop

    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    everything, changed = rollouts(), rollouts()
    changed["completion_ids"][1] = 3
    changed["advantages"][1] = 99.0
    kept = [0, 3]
    torch.testing.assert_close(
        gradient(trainer, drop(changed, kept, 0.5)), gradient(trainer, drop(everything, kept, 0.5)), rtol=0, atol=0
    )


def test_padding_that_all_chosen_rollouts_share_is_cut(trainer: Any) -> None:
    from innerloop.outer.grpo import drop

    found = drop(rollouts(), [1, 3], 0.5)
    assert found["completion_ids"].shape == (2, 4)
    assert found["old_per_token_logps"].shape == (2, 4)
    assert found["num_items_in_batch"] == 9

"""Merging: the least-squares solution over stacked trajectories, found by one walk."""

from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.inner.anatomy import anatomy, project
from innerloop.inner.merge import merge
from innerloop.inner.patch import patched
from innerloop.inner.probe import task_of
from innerloop.inner.reduced import answer_log_probs, logits, reduced
from innerloop.inner.update import update
from innerloop.inner.watch import input_of, output, watching
from innerloop.testing import tiny

pytestmark = pytest.mark.model

ARCHITECTURES = ["llama", "gemma3", "phi3", "gpt2", "gpt_neox", "mixtral", "qwen3_moe"]


def several(make_item, *lengths):
    """Trajectories of one question."""
    head = make_item(0, prompt=20)
    return [
        replace(head, trajectory_id=f"q0/file-{i}", trajectory=make_item(i + 1, length=length).trajectory)
        for i, length in enumerate(lengths)
    ]


@pytest.mark.parametrize(("gauge", "architecture"), [("attention", a) for a in ARCHITECTURES] + [("mlp", "qwen2")])
def test_one_trajectory_merged_is_its_own_update(architecture, gauge, make_item):
    loaded = tiny(architecture, dtype="float64")
    [item] = several(make_item, 30)
    [own] = update(loaded, [item], gauge=gauge, placement="contiguous")
    found = merge(loaded, [item], gauge=gauge)
    for site, factors in own.patch.items():
        wanted = factors.up[0] @ factors.down[0].T
        new = found.patch[site].up[0] @ found.patch[site].down[0].T
        assert torch.allclose(new, wanted, atol=1e-7 * wanted.abs().max().item() + 1e-9)
    assert found.apart < 1e-7
    assert float(found.residual) < 1e-9


@pytest.mark.parametrize(
    "architecture", ["qwen3", "gemma3", "mixtral"]
)  # sites: attention outputs after post-norms, too
def test_it_is_the_least_squares_solution_over_all_stacked_rows(architecture, make_item):
    loaded = replace(tiny(architecture, dtype="float64"), suffix="= ")
    items = several(make_item, 10, 30, 55)
    found = merge(loaded, items)
    model, tasks = loaded.model, [task_of(loaded, item, (len(item.trajectory),)) for item in items]
    run = reduced(loaded, tasks[0], tasks[0].positions, "contiguous")
    layers = anatomy(loaded).layers
    for index in range(len(layers)):
        [site] = layers[index].outputs
        earlier = {s: found.patch[s] for layer in layers[:index] for s in layer.outputs}
        with patched(model, earlier), watching(model, [input_of(site), input_of(layers[index].name)]) as now:
            logits(loaded, run)
        x = now[input_of(site)].view(-1, now[input_of(site)].shape[-1])[-run.branch :]
        wanted = []
        for task in tasks:
            with watching(model, [output(site), input_of(layers[index].name)]) as full:
                model(input_ids=torch.tensor([task.context + task.branch(0)]), use_cache=False)
            aim = full[output(site)].view(-1, 64)[-run.branch :] - project(model.get_submodule(site), x)
            if layers[index].adds:  # there the block's own input is mended, too
                block = input_of(layers[index].name)
                aim = aim + full[block].view(-1, 64)[-run.branch :] - now[block].view(-1, 64)[-run.branch :]
            wanted.append(aim)
        change = torch.linalg.lstsq(torch.cat([x] * len(tasks)), torch.cat(wanted), driver="gelsd").solution.T
        new = found.patch[site].up[0] @ found.patch[site].down[0].T
        assert torch.allclose(new, change, atol=1e-8)


def test_what_is_told_is_what_the_patched_model_does(make_item):
    loaded = tiny("llama", dtype="float64")
    items = several(make_item, 15, 40)
    found = merge(loaded, items)
    run = reduced(loaded, found.task, found.task.positions, "contiguous")
    with patched(loaded.model, found.patch):
        assert torch.allclose(answer_log_probs(logits(loaded, run), run.answer)[0], found.found, atol=1e-10)
    full = [next(update(loaded, [item], placement="contiguous")).full[0] for item in items]
    assert torch.allclose(found.full, torch.stack(full), atol=1e-8)
    expected = [float((found.found - one).abs().max()) for one in full]
    assert found.residual.tolist() == pytest.approx(expected, abs=1e-8)
    assert min(expected) > 1e-3, "different trajectories cannot both be met"
    assert 0.05 < found.apart < 1


def test_order_and_repetition_do_not_matter(make_item):
    loaded = tiny("llama", dtype="float64")
    a, b = several(make_item, 15, 40)
    one, other, twice = merge(loaded, [a, b]), merge(loaded, [b, a]), merge(loaded, [a, a])
    assert torch.allclose(one.found, other.found, atol=1e-9)
    assert one.apart == pytest.approx(other.apart)
    assert torch.allclose(twice.found, merge(loaded, [a]).found, atol=1e-9)
    assert twice.apart < 1e-7


def test_a_merged_adapter_names_its_trajectories(make_item, tmp_path):
    import json

    from innerloop.inner.adapter import save_adapter

    loaded = tiny("llama")
    found = merge(loaded, several(make_item, 15, 40))
    folder = save_adapter(loaded, found.patch, 0, tmp_path / "a", found.origin("What?"))
    told = json.loads((folder / "innerloop.json").read_text())["trajectories"]
    assert [(entry["id"], entry["position"]) for entry in told] == [("q0/file-0", 15), ("q0/file-1", 40)]
    assert [entry["residual"] for entry in told] == pytest.approx(found.residual.tolist())


def test_only_trajectories_of_one_question_can_be_merged(make_item):
    loaded = tiny("llama")
    with pytest.raises(InputError, match="q1/file-0 and q0/file-0 differ in question"):
        merge(loaded, [make_item(0), make_item(1)])
    with pytest.raises(InputError, match="differ in question, mode or answer"):
        merge(loaded, [make_item(0), replace(make_item(0), answer="7")])
    with pytest.raises(InputError, match="nothing to merge"):
        merge(loaded, [])

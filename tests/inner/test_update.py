"""The inner loop's weights: exact on every architecture, in every gauge and scope, also when really loaded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from innerloop.errors import InputError
from innerloop.inner.anatomy import anatomy
from innerloop.inner.patch import (
    Factors,
    difference,
    gram,
    inner,
    patched,
    scaled,
    select,
    squared_norms,
    step_norms,
)
from innerloop.inner.probe import ProbeItem, probe
from innerloop.inner.reduced import answer_log_probs, logits
from innerloop.inner.solve import row_space
from innerloop.inner.update import update
from innerloop.testing import ARCHITECTURES, tiny

ATTENTION_ONLY = {"gemma3", "olmo2", "mixtral", "qwen2_moe", "qwen3_moe", "mamba", "jamba", "qwen3_next"}
WITH_MLP = [name for name in ARCHITECTURES if name not in ATTENTION_ONLY]
POSITIONS = (0, 1, 9, 24)
RESIDUAL = {"float64": 1e-9, "float32": 1e-3}


def exact(loaded, item, **options):
    [made] = update(loaded, [item], positions=[POSITIONS], **options)
    assert (made.base - made.full)[1:].abs().max() > 0.05, "the trajectory must matter, or exactness shows nothing"
    return made


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_patched_model_without_trajectory_is_the_full_model(architecture, dtype, make_item):
    loaded = replace(tiny(architecture, dtype=dtype), suffix="\nSo \\boxed{")
    item = make_item(0, length=24, answer="1234567890123")  # 23 tokens are fed behind the question
    gauges = ("attention", "mlp") if architecture in WITH_MLP else ("attention",)
    for gauge in gauges:
        for scope in ("weights", "answer"):
            for placement in ("kept", "contiguous"):
                made = exact(loaded, item, gauge=gauge, scope=scope, placement=placement)
                assert len(made.task.branch(0)) == 23
                assert made.residual.max() <= RESIDUAL[dtype], (gauge, scope, placement)


@pytest.mark.model
@pytest.mark.parametrize("architecture", sorted(ATTENTION_ONLY))
def test_gauge_mlp_is_refused_where_it_cannot_be_exact(architecture, make_item):
    with pytest.raises(InputError, match=r"gauge mlp can(not| )"):
        list(update(tiny(architecture), [make_item()], gauge="mlp"))


@pytest.mark.model
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("gauge", ["attention", "mlp"])
def test_probe_equals_the_loss_of_really_patched_weights(architecture, gauge, make_item):
    """ΔW is added to the weights themselves, as a dense matrix; the question alone is then enough."""
    if gauge == "mlp" and architecture not in WITH_MLP:
        pytest.skip("gauge mlp does not apply")
    loaded = tiny(architecture, dtype="float64")
    item = make_item(0, length=30)
    [made] = update(loaded, [item], positions=[POSITIONS], gauge=gauge)
    [curve] = probe(loaded, [item], every=POSITIONS, method="plain")
    for row, expected in enumerate(curve.loss):
        run = made.reduced_run(loaded, [row])
        with torch.inference_mode():
            for site, factors in made.patch.items():
                module = loaded.model.get_submodule(site)
                dense = factors.up[row] @ factors.down[row].T
                module.weight += dense.T if isinstance(module, Conv1D) else dense
            loss = -answer_log_probs(logits(loaded, run), run.answer).mean()
            for site, factors in made.patch.items():
                module = loaded.model.get_submodule(site)
                dense = factors.up[row] @ factors.down[row].T
                module.weight -= dense.T if isinstance(module, Conv1D) else dense
        assert float(loss) == pytest.approx(expected, abs=1e-5)  # curves are kept in float32


@pytest.mark.model
@pytest.mark.parametrize("scope", ["weights", "answer"])
def test_patched_runs_every_position_with_its_own_weights(scope, make_item):
    loaded = tiny("llama", dtype="float64")
    [made] = update(loaded, [make_item()], positions=[POSITIONS], scope=scope)
    run = made.reduced_run(loaded, range(len(POSITIONS)))
    with torch.inference_mode(), patched(loaded.model, made.patch, made.rows):
        found = answer_log_probs(logits(loaded, run), run.answer)
    assert torch.allclose(found, made.full, atol=1e-12)
    with torch.inference_mode():
        after = answer_log_probs(logits(loaded, run), run.answer)
    assert torch.allclose(after, made.base, atol=1e-12), "outside the block the weights are θ again"


@pytest.mark.model
def test_scope_answer_leaves_the_question_alone(make_item):
    """With scope weights the question's keys and values move, with scope answer they do not."""
    loaded = tiny("qwen2", dtype="float64")
    states = {}
    for scope in ("weights", "answer"):
        [made] = update(loaded, [make_item()], scope=scope)
        run = made.reduced_run(loaded, [0])
        with torch.inference_mode(), patched(loaded.model, made.patch, made.rows):
            hidden = loaded.model.model(
                input_ids=run.input_ids, position_ids=run.position_ids, attention_mask=torch.ones_like(run.input_ids)
            )
        states[scope] = hidden.last_hidden_state[0, : len(made.task.prompt)]
    with torch.inference_mode():
        plain = loaded.model.model(input_ids=run.input_ids).last_hidden_state[0, : len(made.task.prompt)]
    assert torch.allclose(states["answer"], plain, atol=1e-12)
    assert (states["weights"] - plain).abs().max() > 1e-3


@pytest.mark.model
def test_no_trajectory_no_update(make_item):
    [made] = update(tiny("llama", dtype="float64"), [make_item()], positions=[(0, 5)])
    assert made.layer_norms[0].max() < 1e-12
    assert made.layer_norms[1].min() > 1e-3
    first, second = made.records()
    assert first.loss == pytest.approx(first.base_loss)
    assert first.step_norm is None
    assert second.step_norm == pytest.approx(second.norm, rel=1e-9), "the first step starts at θ"


@pytest.mark.model
def test_records_say_what_the_factors_say(make_item):
    loaded = tiny("llama", dtype="float64")
    [made] = update(loaded, [make_item()], positions=[POSITIONS])
    dense = {site: f.up @ f.down.transpose(1, 2) for site, f in made.patch.items()}
    theta = math.sqrt(sum(float(loaded.model.get_submodule(s).weight.square().sum()) for s in dense))
    for row, record in enumerate(made.records()):
        norm = math.sqrt(sum(float(w[row].square().sum()) for w in dense.values()))
        assert record.norm == pytest.approx(norm, abs=1e-12)
        assert record.relative == pytest.approx(norm / theta, abs=1e-12)
        assert record.full_loss == pytest.approx(-float(made.full[row].mean()))
        assert record.rank == len(made.task.branch(0))
        if row:
            step = math.sqrt(sum(float((w[row] - w[row - 1]).square().sum()) for w in dense.values()))
            assert record.step_norm == pytest.approx(step, rel=1e-9)
            assert math.sqrt(sum(x * x for x in record.layer_step)) == pytest.approx(step, rel=1e-5)


@pytest.mark.model
@pytest.mark.parametrize("kept", [True, False])
def test_base_is_the_unpatched_model_without_the_trajectory(kept, make_item):
    """The shared prefix and an ordinary forward over a filled cache agree on what is left without a trajectory."""
    from transformers import DynamicCache

    loaded = tiny("llama", dtype="float64")
    placement = "kept" if kept else "contiguous"
    [made] = update(loaded, [make_item()], positions=[POSITIONS], placement=placement)
    task = made.task
    for row, position in enumerate(POSITIONS):
        cache = DynamicCache(config=loaded.model.config)
        start = task.seen(position) if kept else len(task.prompt)
        where = torch.arange(start, start + len(task.branch(0)))[None]
        with torch.inference_mode():
            loaded.model(input_ids=torch.tensor([task.prompt]), past_key_values=cache)
            out = loaded.model(input_ids=torch.tensor([task.branch(0)]), position_ids=where, past_key_values=cache)
        answer = torch.tensor(task.answers[0])
        expected = answer_log_probs(out.logits[0, -len(answer) :], answer)
        assert torch.allclose(made.base[row], expected, atol=1e-12)


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_result_does_not_depend_on_the_batch(architecture, make_item, monkeypatch):
    loaded, item = tiny(architecture, dtype="float64"), make_item()
    [together] = update(loaded, [item], positions=[POSITIONS])
    monkeypatch.setattr("innerloop.inner.update._CPU_ROW", 1)
    [single] = update(loaded, [item], positions=[POSITIONS])
    for site, factors in together.patch.items():
        assert torch.allclose(inner(factors, factors), inner(single.patch[site], single.patch[site]), atol=1e-12)
    assert torch.allclose(together.found, single.found, atol=1e-12)


def linear_attention_toy(seed: int = 0):
    """One layer of linear attention, o = Σ v kᵀ q over the tokens before and at q, then W_o; no norm, no residual."""
    draw = torch.Generator().manual_seed(seed)
    d = 6
    w_k, w_v, w_o = (torch.randn(d, d, generator=draw, dtype=torch.float64) for _ in range(3))
    question, trajectory, branch = (torch.randn(n, d, generator=draw, dtype=torch.float64) for n in (5, 3, 2))

    def attended(context):
        memory = (context @ w_v.T).T @ (context @ w_k.T)
        return branch @ memory.T

    return (
        w_o,
        attended(question),
        attended(torch.cat([question, trajectory])),
        (trajectory @ w_v.T).T @ (trajectory @ w_k.T),
        branch,
    )


def test_update_of_linear_attention_is_the_known_one():
    """There the trajectory adds Σ v kᵀ to the memory; the patch on W_o does to the branch just what that does."""
    w_o, without, with_, memory, branch = linear_attention_toy()
    space = row_space(without[None])
    up = space.smallest(((with_ - without) @ w_o.T)[None])
    patched_out = without @ w_o.T + (without @ space.basis[0]) @ up[0].T
    closed_form = without @ w_o.T + branch @ memory.T @ w_o.T
    assert torch.allclose(patched_out, closed_form, atol=1e-12)


def test_the_patch_is_the_smallest_one():
    draw = torch.Generator().manual_seed(1)
    rows, change = (torch.randn(1, 4, 9, generator=draw, dtype=torch.float64) for _ in range(2))
    space = row_space(rows)
    up = space.smallest(change)
    dense = (up @ space.basis.transpose(1, 2))[0]
    assert torch.allclose(dense @ rows[0].T, change[0].T, atol=1e-12)
    least = (torch.linalg.pinv(rows[0]) @ change[0]).T
    assert torch.allclose(dense, least, atol=1e-12)


def test_dependent_rows_are_found_and_solved_in_least_squares():
    draw = torch.Generator().manual_seed(2)
    rows = torch.randn(1, 3, 8, generator=draw, dtype=torch.float64)
    rows[0, 2] = 2 * rows[0, 0] - rows[0, 1]
    change = torch.randn(1, 3, 5, generator=draw, dtype=torch.float64)
    space = row_space(rows)
    assert bool(space.deficient[0])
    assert int(space.rank[0]) == 2
    assert math.isinf(float(space.condition[0]))
    dense = (space.smallest(change) @ space.basis.transpose(1, 2))[0]
    assert torch.allclose(dense, (torch.linalg.pinv(rows[0]) @ change[0]).T, atol=1e-10)


def test_more_rows_than_inputs():
    draw = torch.Generator().manual_seed(3)
    rows, change = (torch.randn(1, 5, n, generator=draw, dtype=torch.float64) for n in (3, 4))
    space = row_space(rows)
    assert bool(space.deficient[0])
    assert int(space.rank[0]) == 3
    dense = (space.smallest(change) @ space.basis.transpose(1, 2))[0]
    assert torch.allclose(dense, (torch.linalg.pinv(rows[0]) @ change[0]).T, atol=1e-10)


def random_factors(seed: int, batch: int = 3) -> Factors:
    draw = torch.Generator().manual_seed(seed)
    return Factors(*(torch.randn(batch, n, 2, generator=draw, dtype=torch.float64) for n in (4, 5)))


def test_geometry_from_factors_is_that_of_the_matrices():
    a, b = random_factors(0), random_factors(1)
    dense_a, dense_b = (f.up @ f.down.transpose(1, 2) for f in (a, b))
    assert torch.allclose(inner(a, b), (dense_a * dense_b).sum(dim=(1, 2)))
    assert torch.allclose(gram(a), torch.einsum("aij,bij->ab", dense_a, dense_a))
    assert torch.allclose(squared_norms({"s": a})["s"], dense_a.square().sum(dim=(1, 2)))
    assert torch.allclose(step_norms(a), (dense_a[1:] - dense_a[:-1]).square().sum(dim=(1, 2)).sqrt())
    d = difference({"s": a}, {"s": b})["s"]
    assert torch.allclose(d.up @ d.down.transpose(1, 2), dense_a - dense_b)
    s = scaled(select({"s": a}, [2]), 3.0)["s"]
    assert torch.allclose(s.up @ s.down.transpose(1, 2), 3 * dense_a[2:])


@pytest.mark.model
def test_structure_of_blocks():
    assert all(layer.adds and not layer.parallel for layer in anatomy(tiny("llama")).layers)
    assert all(layer.adds and layer.parallel for layer in anatomy(tiny("gpt_neox")).layers)
    assert all(
        layer.adds and not layer.parallel for layer in anatomy(tiny("gpt_neox", use_parallel_residual=False)).layers
    )
    assert not any(layer.adds for layer in anatomy(tiny("olmo2")).layers)
    assert all(len(layer.outputs) == 2 for layer in anatomy(tiny("falcon_h1")).layers)


@pytest.mark.model
def test_parallel_blocks_get_an_output_patch_only(make_item):
    [made] = update(tiny("gpt_neox"), [make_item()], gauge="mlp")
    assert {site.rpartition(".")[2] for site in made.patch} == {"dense_4h_to_h"}


@pytest.mark.model
def test_position_beyond_the_trajectory_is_refused(make_item):
    with pytest.raises(InputError, match=r"q0/file-0: position 41 lies outside 0…40"):
        list(update(tiny("llama"), [make_item()], positions=[(0, 41)]))


@pytest.mark.model
def test_unrecognised_output_projection_is_refused_with_what_was_looked_for(make_item):
    loaded = tiny("llama")
    for layer in loaded.model.model.layers:
        layer.self_attn.exit = layer.self_attn.o_proj
        del layer.self_attn.o_proj
    with pytest.raises(InputError, match=r"no output projection of attention in model\.layers\.0 \(looked for o_proj"):
        list(update(loaded, [make_item()]))


@pytest.mark.model
def test_branch_longer_than_the_inputs_is_refused(make_item):
    loaded = replace(tiny("llama"), suffix="x" * 64)
    with pytest.raises(InputError, match=r"feed 65 tokens, but .*o_proj takes 64 inputs"):
        list(update(loaded, [make_item()]))


@pytest.mark.model
def test_inexact_patches_are_reported(make_item, caplog):
    list(update(tiny("llama", dtype="bfloat16"), [make_item()]))
    assert "patched and full run differ by up to" in caplog.text
    assert "--dtype float64" in caplog.text


@pytest.mark.model
@pytest.mark.parametrize(
    ("dtype", "allowed", "count"),
    [
        ("float32", 1e-4, 5),
        pytest.param("float32", 1e-4, 20, marks=pytest.mark.long),
        pytest.param("float64", 1e-11, 20, marks=pytest.mark.long),
    ],
)
def test_real_model_on_real_solutions(dtype, allowed, count, data_dir):
    """GSM8K solutions of the test split, SmolLM2: residual at every stored position."""
    from innerloop.models import load
    from innerloop.questions import load as load_questions

    loaded = load("smollm2", dtype=dtype)
    questions = load_questions(f"gsm8k@{data_dir / 'gsm8k_test.jsonl'}", limit=count)
    items = [
        ProbeItem(
            trajectory_id=f"{question.id}/solution",
            question_id=question.id,
            prompt=tuple(loaded.prompt(question.question)),
            trajectory=tuple(loaded.encode(question.solution)),
            answer=question.answer,
        )
        for question in questions
    ]
    where = [(len(item.trajectory),) if i % 4 else (0, len(item.trajectory) // 2) for i, item in enumerate(items)]
    worst = max(float(made.residual.max()) for made in update(loaded, items, positions=where))
    assert worst <= allowed

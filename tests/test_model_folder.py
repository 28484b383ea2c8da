"""Model folders that came from anywhere: each file is looked at before a library reads it."""

from __future__ import annotations

import base64
import json
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from innerloop import model_folder
from innerloop.errors import InputError
from innerloop.model_files import resolve
from innerloop.testing import byte_tokenizer

Tensors = dict[str, tuple[str, list[int], list[int]]]


def safetensors(tensors: Tensors, size: int, *, header: bytes | None = None) -> bytes:
    """A file with these tensors (type, shape, place), or with this header, and so many bytes behind it."""
    keys = ("dtype", "shape", "data_offsets")
    said = {name: dict(zip(keys, values, strict=True)) for name, values in tensors.items()}
    text = json.dumps(said).encode() if header is None else header
    return struct.pack("<Q", len(text)) + text + bytes(size)


WEIGHTS = {
    "model.embed_tokens.weight": ("F32", [300, 8], [0, 9600]),
    "model.layers.0.mlp.weight": ("F32", [8, 8], [9600, 9856]),
    "model.layers.1.mlp.weight": ("F32", [8, 8], [9856, 10112]),
}
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 300, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is let through, without being a model."""
    place = tmp_path / "m"
    byte_tokenizer().save_pretrained(place)
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    (place / "model.safetensors").write_bytes(safetensors(WEIGHTS, 10112))
    model_folder.check(place)
    return place


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | fields))


def refused(folder: Path, said: str) -> None:
    """In one line, that names the file, at once."""
    begun = time.process_time()
    with pytest.raises(InputError, match=said) as caught:
        resolve(str(folder))
    assert time.process_time() - begun < 5
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000: the weights have 2 layers"),
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1: the weights have 2 layers"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3: the weights have 2 layers"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers is 2: it is a whole number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"text_config": {"num_hidden_layers": 10**7}}, "num_hidden_layers is 10000000"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000: no weight is wider than 300"),
        ({"hidden_size": 0}, "hidden_size is 0: it is a whole number above 0"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"intermediate_size": 10**8}, "intermediate_size is 100000000"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "num_key_value_heads is 3: it divides the 4"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({"num_experts": 10**6}, "num_experts is 1000000: too many"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings is 1000000000000"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0: it is a number between 0 and 1"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0: it is a number above 0"),
        ({"rope_parameters": {"rope_theta": float("nan")}}, "rope_theta is nan"),
        ({"initializer_range": float("inf")}, "initializer_range is inf"),
        ({"anything": 10**400}, "cannot be loaded as JSON|no number that a model can have"),
        ({"transformers_weights": "../../other.safetensors"}, r"transformers_weights is \.\./\.\./other"),
        ({"attn_implementation": "someone/kernel"}, "attn_implementation is someone/kernel: the name of code"),
        ({"_attn_implementation": {"": "someone/kernel"}}, "the name of code from elsewhere"),
        ({"text_config": {"experts_implementation": "a/b:c"}}, "experts_implementation is a/b:c"),
        ({"tokenizer_class": "AutoModel"}, "tokenizer_class is 'AutoModel', which is no class of tokenizers"),
    ],
)
def test_a_configuration_that_cannot_be(folder, fields, said):
    edit(folder / "config.json", **fields)
    refused(folder, said)


@pytest.mark.parametrize(
    "fields",
    [
        {"time_step_limit": [0.0, float("inf")]},  # Mamba 2's own
        {"model_max_length": 10**30},
        {"num_attention_heads": 3, "head_dim": 4, "max_position_embeddings": 1200.0},
        {"assign_eps": 1.0, "eps": 0.0},
        {"rope_scaling": None, "rms_norm_eps": 1e-6, "num_key_value_heads": 1},
        {"num_hidden_layers": 1, "num_nextn_predict_layers": 1},
    ],
)
def test_a_configuration_as_they_are(folder, fields):
    edit(folder / "config.json", **fields)
    model_folder.check(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be loaded as JSON"),
        (b"[1]", "cannot be loaded, it is no JSON object"),
        (b"\xff\xfe", "cannot be loaded as text"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "cannot be loaded as JSON .nested deeper"),
        (b'{"hidden_size": 8, "hidden_size": 9}', "'hidden_size' is there twice"),
        (b'{"a": "' + b"x" * (5 << 20) + b'"}', "config.json: has 5,242,889 bytes, and more than 4,194,304"),
    ],
)
def test_a_configuration_that_is_no_json(folder, content, said):
    (folder / "config.json").write_bytes(content)
    refused(folder, said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eos_token_id": "abc"}, "eos_token_id is abc"),
        ({"eos_token_id": [1, [2]]}, r"eos_token_id is \[2\]"),
        ({"eos_token_id": 2**40}, "eos_token_id is 1099511627776"),
        ({"pad_token_id": 1.5}, "pad_token_id is 1.5"),
        ({"eos_token_id": list(range(5000))}, "eos_token_id lists 5,000 tokens"),
    ],
)
def test_generation_settings_that_cannot_be(folder, fields, said):
    edit(folder / "generation_config.json", **fields)
    refused(folder, said)


HUGE = struct.pack("<Q", 2**40) + b"{}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its header is said to have 0 bytes"),
        (HUGE, "its header is said to have 1,099,511,627,776 bytes"),
        (safetensors({}, 0, header=b"[]"), "its header is no object"),
        (safetensors({}, 0, header=b"{]"), "cannot be loaded as safetensors"),
        (safetensors({}, 0, header=b'{"a": 1}'), "tensor 'a' has no type, shape and place"),
        (safetensors({"a": ("X9", [1], [0, 4])}, 4), 'has type "X9"'),
        (safetensors({"a": ("F32", [-1], [0, 4])}, 4), "has shape"),
        (safetensors({"a": ("F32", [2**40, 2**40], [0, 4])}, 4), "in 4 bytes"),
        (safetensors({"a": ("F32", [1], [0, 2**40])}, 4), "in 1,099,511,627,776 bytes"),
        (safetensors({"a": ("F32", [1], [4, 8])}, 8), "begins at byte 4 of the weights, not at 0"),
        (safetensors({"a": ("F32", [1], [0, 4]), "b": ("F32", [1], [0, 4])}, 4), "begins at byte 0"),
        (safetensors({"a": ("F32", [1], [0, 4])}, 99), "the file has 99"),
        (safetensors({"a": ("F32", [1] * 99, [0, 4])}, 4), "99 dimensions"),
    ],
)
def test_weights_that_cannot_be(folder, data, said):
    (folder / "model.safetensors").write_bytes(data)
    refused(folder, said)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "sub/model.safetensors", "other.safetensors", ""])
def test_an_index_that_leads_elsewhere(folder, shard):
    edit(folder / "model.safetensors.index.json", weight_map={"model.embed_tokens.weight": shard})
    refused(folder, "model.safetensors.index.json: names .* no .*safetensors beside it")


def test_links_stay_inside(folder, tmp_path):
    (tmp_path / "elsewhere.json").write_text("{}")
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to(tmp_path / "elsewhere.json")
    refused(folder, "generation_config.json: is a link out of its folder")
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to("config.json")
    model_folder.check(folder)
    (tmp_path / "link").symlink_to(folder)
    model_folder.check(tmp_path / "link")  # the folder itself may be reached by one


def test_a_snapshot_of_the_hubs_cache_links_to_its_own_store(folder, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        file.rename(blobs / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    model_folder.check(snapshot)


@pytest.mark.parametrize("name", ["generation_config.json", "chat_template.jinja", "extra.safetensors"])
def test_what_is_no_file_is_not_read(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    refused(folder, f"{name}: is no regular file")


def test_a_template_of_megabytes(folder):
    (folder / "chat_template.jinja").write_text("x" * (5 << 20))
    refused(folder, "chat_template.jinja: has 5,242,880 bytes")


def test_an_adapter_is_no_model(folder):
    edit(folder / "adapter_config.json", base_model_name_or_path="/somewhere/else")
    refused(folder, "holds an adapter .*merge_and_unload")


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def split(expression: str) -> dict[str, Any]:
    return part("Split", pattern={"Regex": expression}, behavior="Isolated", invert=False)


def replace(old: str, new: str) -> dict[str, Any]:
    return part("Replace", pattern={"String": old}, content=new)


def charsmap(text: bytes) -> str:
    return base64.b64encode(struct.pack("<I", 4) + bytes(4) + text).decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pre_tokenizer": split("(a+)+b")}, r"expression '\(a\+\)\+b' in its pre_tokenizer repeats what has several"),
        (
            {"pre_tokenizer": part("Sequence", pretokenizers=[part("Digits"), split("a*a*a*b")])},
            "loops behind each other",
        ),
        ({"normalizer": part("Replace", pattern={"Regex": "(a|a)*b"}, content="")}, "in its normalizer"),
        ({"decoder": part("Replace", pattern={"Regex": "(a|a)*b"}, content="")}, "in its decoder"),
        (
            {"normalizer": part("Sequence", normalizers=[replace("a", "aa")] * 40)},
            "normalizer may make a text 1,099,511,627,776 times as long",
        ),
        ({"normalizer": replace("a", "a" * 2000)}, "content of Replace has 2,000 characters"),
        ({"normalizer": part("Prepend", prepend="a" * 2000)}, "prepend of Prepend has 2,000 characters"),
        ({"normalizer": part("Sequence", normalizers=[part("NFC")] * 100)}, "normalizer has 101 steps"),
        ({"normalizer": part("Precompiled", precompiled_charsmap=charsmap(b"a" * 999))}, "by 999 bytes"),
        ({"normalizer": part("Precompiled", precompiled_charsmap="AAAAAf8=")}, "has an index of"),
        ({"padding": {"strategy": {"Fixed": 10**10}, "pad_id": 0}}, "padding is to .*10000000000"),
        ({"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 10**9}}, "pad_to_multiple_of is 1000000000"),
        ({"added_tokens": [{"id": 9, "content": "x" * 5000}]}, "which is no text of a token's length"),
        ({"added_tokens": {"a": 1}}, "adds no list of"),
        (
            {"post_processor": part("TemplateProcessing", special_tokens={"a": {"ids": [1] * 99}}, single=[])},
            "puts 99 tokens around every text",
        ),
        ({"model": None}, "it has no model"),
        ({"model": part("BPE", vocab=7, merges=[])}, "vocab is no object"),
        ({"model": part("Unigram", vocab=[["x" * 9999, 0.0]])}, "a piece of 9,999 characters"),
        ({"model": part("BPE", vocab={}, merges=[], end_of_word_suffix="x" * 2000)}, "end_of_word_suffix has 2,000"),
        ({"model": part("WordPiece", vocab={}, max_input_chars_per_word=10**9)}, "max_input_chars_per_word"),
        ({"normalizer": part("Replace", pattern=7, content=8)}, "|"),
    ],
)
def test_a_tokenizer_that_makes_too_much_of_a_text(folder, fields, said):
    edit(folder / "tokenizer.json", **fields)
    if said == "|":  # what no one understands is left to the library, which refuses it
        model_folder.check(folder)
    else:
        refused(folder, said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tokenizer_class": "AutoModelForCausalLM"}, "tokenizer_class is 'AutoModelForCausalLM'"),
        ({"tokenizer_class": "AutoTokenizer"}, "tokenizer_class is 'AutoTokenizer'"),
        ({"tokenizer_class": "os.system"}, "tokenizer_class is 'os.system'"),
        ({"tokenizer_class": ["LlamaTokenizer"]}, "tokenizer_class is"),
        ({"gguf_file": "../evil.gguf"}, "gguf_file is '../evil.gguf'"),
        ({"fast_tokenizer_files": ["../tokenizer.json"]}, "fast_tokenizer_files names"),
        ({"added_tokens_decoder": {"0": {"content": "x" * 5000}}}, "no text of a token's length"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is no object"),
        ({"extra_special_tokens": "x"}, "extra_special_tokens no list"),
    ],
)
def test_tokenizer_settings_that_name_what_they_must_not(folder, fields, said):
    edit(folder / "tokenizer_config.json", **fields)
    refused(folder, said)


def sentencepiece(pieces: list[bytes]) -> bytes:
    def field(data: bytes) -> bytes:
        length, head = len(data), b""
        while length > 127:
            head += bytes([length & 127 | 128])
            length >>= 7
        return b"\n" + head + bytes([length]) + data

    return b"".join(field(field(piece)) for piece in pieces)


def test_a_sentencepiece_model_alone(folder):
    (folder / "tokenizer.json").unlink()
    file = folder / "tokenizer.model"
    file.write_bytes(sentencepiece([b"a", b"ab"]) + b"\x12\x02\x08\x01")
    model_folder.check(folder)
    file.write_bytes(sentencepiece([b"a", b"x" * 9999]))
    refused(folder, "tokenizer.model: holds a piece of 9,999 bytes")
    file.write_bytes(sentencepiece([b"a"])[:-1] + b"\xff" * 12)
    refused(folder, "tokenizer.model: (is no sentencepiece model|ends within a field)")


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tk", "evil.Tk"]}}),
        ("config.json", {"auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}),
        ("config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}),
    ],
    ids=["tokenizer", "model", "configuration"],
)
def test_code_beside_a_model_never_runs(tiny_model: Path, tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    """Nor is anybody asked, whose answer could be "y"."""
    import shutil

    from innerloop.models import load
    from innerloop.speaker import load_speaker

    folder = tmp_path / "m"
    shutil.copytree(tiny_model, folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit(folder / name, **fields)
    for read in (load, load_speaker):
        with suppress(InputError):  # or what there is of transformers' own is used
            read(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.model
def test_a_model_far_larger_than_its_weights_is_not_built(tiny_model: Path, tmp_path: Path) -> None:
    """Each number alone is one that some weight has."""
    import shutil

    from innerloop.models import load

    folder = tmp_path / "m"
    shutil.copytree(tiny_model, folder)
    edit(folder / "config.json", hidden_size=4096, intermediate_size=4096, num_attention_heads=4, head_dim=4096)
    with pytest.raises(InputError, match=r"describes a model of [\d,]+ weights, and there are [\d,]+"):
        load(str(folder))

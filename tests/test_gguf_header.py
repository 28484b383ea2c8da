"""GGUF headers, made by hand: what is let through, and what is refused before any library reads it."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from innerloop import gguf_header, gguf_values
from innerloop.errors import InputError
from innerloop.gguf_header import DamagedError, Header, header, parse

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
Field = tuple[str, int, bytes]  # name, type, the value's bytes


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def u32(name: str, value: int) -> Field:
    return name, U32, struct.pack("<I", value)


def f32(name: str, value: float) -> Field:
    return name, F32, struct.pack("<f", value)


def string(name: str, value: str | bytes) -> Field:
    return name, STRING, text(value)


def strings(name: str, values: Sequence[str]) -> Field:
    return name, ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(map(text, values))


def numbers(name: str, kind: int, form: str, values: Sequence[float]) -> Field:
    return name, ARRAY, struct.pack(f"<IQ{len(values)}{form}", kind, len(values), *values)


LLAMA = string("general.architecture", "llama")


def made(
    fields: Sequence[Field] = (LLAMA,),
    tensors: Sequence[tuple[str, Sequence[int], int, int]] = (),
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    weights: int = 0,
    magic: bytes = b"GGUF",
) -> bytes:
    """A file of these fields and tensors (name, dimensions, type, offset), with ``weights`` bytes behind them."""
    data = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(fields))))
    for name, kind, value in fields:
        data += text(name) + struct.pack("<I", kind) + value
    for name, shape, kind, offset in tensors:
        data += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return data + bytes(-len(data) % 32) + bytes(weights)


def read(data: bytes) -> Header:
    found = parse(io.BytesIO(data), len(data))
    gguf_values.check(found)
    return found


def test_types_are_those_of_the_gguf_package():
    assert {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()} == gguf_header.TYPES


def test_reads_what_the_gguf_package_writes(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(77)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_bool("general.truth", True)
    writer.add_int8("general.least", -7)
    writer.add_float64("general.precise", 0.1)
    writer.add_token_list(["a", "é", "<s>"])
    writer.add_token_scores([0.5, -1.0, 0.0])
    writer.add_array("general.flags", [True, False])
    writer.add_tensor("blk.0.attn_norm.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quantize(np.ones((2, 64), dtype=np.float32), kind)
    writer.add_tensor("blk.0.ffn_up.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = header(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            value = field.contents()
            assert found.fields[name] == (tuple(value) if isinstance(value, list) else value), name
    theirs = [(t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.data_offset, t.n_bytes) for t in reader.tensors]
    assert [tuple(tensor) for tensor in found.tensors] == theirs
    assert found.weights == 12 + 128


NORM = ("blk.0.attn_norm.weight", (8,), 0, 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the magic takes 4 bytes, and 0 are left"),
        (b"GGUF", "the version takes 4 bytes"),
        (made(magic=b"GGML"), "does not begin with GGUF"),
        (made(version=1), "its version is 1, and 2 and 3 are read"),
        (made(version=3 << 24), "big-endian"),
        (made(version=2**31), "big-endian"),
        (made(counts=(2**63, 0)), "said to have 9,223,372,036,854,775,808 tensors"),
        (made(counts=(0, 2**40)), "said to have 1,099,511,627,776 metadata fields"),
        (made(counts=(0, 2)), "the name of metadata field 2|the type of"),
        (made([("general.x", ARRAY, struct.pack("<IQ", U32, 2**40))]), "elements in metadata field 'general.x'"),
        (made([("general.x", ARRAY, struct.pack("<IQ", STRING, 2**61))]), "elements in metadata field 'general.x'"),
        (made([("general.x", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(40))]), "is an array of type 9"),
        (made([("general.x", ARRAY, struct.pack("<IQ", 77, 1))]), "is an array of type 77"),
        (made([("general.x", 13, b"")]), "has type 13, which is none of GGUF's"),
        (made([("general.x", STRING, struct.pack("<Q", 2**63))]), "takes 9,223,372,036,854,775,808 bytes"),
        (made([("general.x", STRING, struct.pack("<Q", 2**64 - 8))]), "and .* are left in the file"),
        (made([string("general.x", b"\xff\xfe")]), "is no UTF-8"),
        (made([LLAMA, LLAMA]), "'general.architecture' is there twice"),
        (made([string("", "x")]), "which is no name"),
        (made([string("a\nb", "x")]), "which is no name"),
        (made([string("x" * 2000, "x")]), "which is no name"),
        (made([LLAMA, u32("general.alignment", 0)]), "general.alignment is 0"),
        (made([LLAMA, u32("general.alignment", 24)]), "general.alignment is 24"),
        (made([LLAMA, f32("general.alignment", 32)]), "general.alignment has type 6; it has 4"),
        (made([LLAMA, u32("GGUF.version", 3)]), "'GGUF.version' is there twice"),
        (made(tensors=[("t", (), 0, 0)]), "has 0 dimensions"),
        (made(tensors=[("t", (1,) * 5, 0, 0)], weights=32), "has 5 dimensions"),
        (made(tensors=[("t", (0, 4), 0, 0)]), "has the dimensions 0×4"),
        (made(tensors=[("t", (2**32, 2**32), 0, 0)]), "has the dimensions 4294967296×4294967296"),
        (made(tensors=[("t", (2**63,), 24, 0)]), "has the dimensions"),
        (made(tensors=[("t", (8,), 5, 0)], weights=32), "has type 5, which is none of ggml's"),
        (made(tensors=[("t", (33,), 8, 0)], weights=99), "rows of 33 weights, and Q8_0 has blocks of 32"),
        (made(tensors=[("t", (8,), 0, 16)], weights=64), "begins at 16, which is no multiple of 32"),
        (made(tensors=[("t", (9,), 0, 0)], weights=32), "ends at byte"),
        (made(tensors=[("t", (8,), 0, 2**63)], weights=32), "ends at byte"),
        (made(tensors=[NORM, NORM], weights=32), "'blk.0.attn_norm.weight' is there twice"),
        (made(tensors=[("a", (16,), 0, 0), ("b", (8,), 0, 32)], weights=64), "'b' begins within the one before it"),
    ],
)
def test_a_header_that_cannot_be_is_refused(data, said):
    begun = time.process_time()
    with pytest.raises(DamagedError, match=said):
        read(data)
    assert time.process_time() - begun < 1


TOKENS = strings("tokenizer.ggml.tokens", ["a", "b", "<s>"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([], "general.architecture is None"),
        ([string("general.architecture", "")], "general.architecture is ''"),
        ([u32("general.architecture", 7)], "general.architecture is 7"),
        ([string("general.architecture", "../x")], "general.architecture is"),
        ([LLAMA, u32("llama.block_count", 10**7)], "llama.block_count is 10000000; it is from 1 to 4,096"),
        ([LLAMA, u32("llama.block_count", 0)], "llama.block_count is 0"),
        ([LLAMA, u32("llama.block_count", 2)], "llama.block_count is 2, and 1 have tensors"),
        ([LLAMA, string("llama.block_count", "2")], "llama.block_count is '2'"),
        ([LLAMA, numbers("llama.block_count", U32, "I", [1])], "llama.block_count is an array"),
        ([LLAMA, u32("llama.embedding_length", 10**9)], "llama.embedding_length is 1000000000"),
        ([LLAMA, u32("llama.embedding_length", 9), u32("llama.attention.head_count", 2)], "no multiple of its 2 heads"),
        ([LLAMA, u32("llama.context_length", 0)], "llama.context_length is 0"),
        ([LLAMA, u32("llama.attention.head_count", 2**31)], "llama.attention.head_count is 2147483648"),
        ([LLAMA, numbers("llama.attention.head_count", U32, "I", [2, 2**31])], "attention.head_count is 2147483648"),
        (
            [LLAMA, u32("llama.attention.head_count", 8), u32("llama.attention.head_count_kv", 3)],
            "head_count is 8, no multiple of head_count_kv, 3",
        ),
        ([LLAMA, f32("llama.attention.layer_norm_rms_epsilon", float("nan"))], "layer_norm_rms_epsilon is nan"),
        ([LLAMA, f32("llama.attention.layer_norm_rms_epsilon", 0)], "is a number between 0 and 1"),
        ([LLAMA, f32("llama.attention.layer_norm_epsilon", -1e-5)], "is a number between 0 and 1"),
        ([LLAMA, f32("llama.rope.freq_base", float("inf"))], "llama.rope.freq_base is inf"),
        ([LLAMA, f32("llama.rope.freq_base", 0)], "llama.rope.freq_base is 0.0; it is a number above 0"),
        ([LLAMA, TOKENS, numbers("tokenizer.ggml.scores", F32, "f", [1, 2])], "scores has 2 values for 3 tokens"),
        ([LLAMA, TOKENS, numbers("tokenizer.ggml.token_type", U32, "I", [1] * 4)], "token_type has 4 values for 3"),
        (
            [LLAMA, TOKENS, numbers("tokenizer.ggml.scores", F32, "f", [1, 2, float("nan")])],
            "scores holds what is no finite number",
        ),
        ([LLAMA, u32("tokenizer.ggml.tokens", 3)], "tokenizer.ggml.tokens is no list of texts"),
        ([LLAMA, strings("tokenizer.ggml.tokens", ["a" * 2000])], "a token of 2,000 characters"),
        ([LLAMA, TOKENS, u32("tokenizer.ggml.eos_token_id", 3)], "eos_token_id is 3, and there are 3 tokens"),
        ([LLAMA, TOKENS, strings("tokenizer.ggml.merges", ["a b", "ab"])], "merges is no list of pairs"),
        ([LLAMA, string("tokenizer.chat_template", "x" * 1_000_001)], "chat_template has 1,000,001 characters"),
    ],
)
def test_values_that_cannot_be_are_refused(fields, said):
    with pytest.raises(DamagedError, match=said):
        read(made(fields, [NORM], weights=32))


def test_the_embedding_has_the_width_and_the_tokens():
    def of(width: int, rows: int) -> bytes:
        fields = [LLAMA, u32("llama.embedding_length", width), TOKENS]
        return made(fields, [("token_embd.weight", (8, rows), 0, 0)], weights=32 * rows)

    read(of(8, 3))
    read(of(8, 4))  # padded
    with pytest.raises(DamagedError, match=r"embedding_length is 16, and token_embd\.weight has rows of 8"):
        read(of(16, 3))
    with pytest.raises(DamagedError, match=r"3 tokens, and token_embd\.weight has 2 rows"):
        read(of(8, 2))


def test_more_special_tokens_than_any_model_has():
    many = 70_000
    fields = [LLAMA, strings("tokenizer.ggml.tokens", ["t"] * many)]
    with pytest.raises(DamagedError, match="marks 70,000 special tokens"):
        read(made([*fields, numbers("tokenizer.ggml.token_type", U32, "I", [3] * many)]))


def test_blocks_that_predict_further_ahead_may_be_left_out():
    fields = [LLAMA, u32("llama.block_count", 2), u32("llama.nextn_predict_layers", 1)]
    read(made(fields, [NORM], weights=32))


@pytest.mark.parametrize(
    ("fields", "tensors", "said"),
    [
        ([LLAMA, u32("split.count", 3)], [NORM], "one of 3 parts of a model; .*llama-gguf-split --merge"),
        ([LLAMA], [NORM], "llama.block_count is missing"),
        ([LLAMA, u32("llama.block_count", 4096), u32("llama.embedding_length", 8)], [], "holds no block"),
    ],
)
def test_what_is_no_whole_model(fields, tensors, said):
    with pytest.raises(DamagedError, match=said):
        gguf_values.check_complete(read(made(fields, tensors, weights=32)))


def test_the_file_and_the_remedy_are_named(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(made([LLAMA, ("general.x", ARRAY, struct.pack("<IQ", U32, 2**40))]))
    with pytest.raises(InputError, match=r"cannot read '.*m\.gguf' as a GGUF model: .*'general\.x'.*fetch the file"):
        header(file)
    with pytest.raises(InputError, match=r"cannot read '.*none\.gguf': No such file"):
        header(tmp_path / "none.gguf")


def test_time_and_memory_are_those_of_the_file():
    """A file that is cut off anywhere, or whose every number is the largest there is, is refused at once."""
    fields: list[Any] = [LLAMA, TOKENS, u32("llama.block_count", 1), f32("llama.rope.freq_base", 1e4)]
    whole = made(fields, [NORM], weights=32)
    read(whole)
    tracemalloc.start()
    begun = time.process_time()
    for at in range(len(whole)):
        with pytest.raises(DamagedError):
            read(whole[:at])
        large = whole[:at] + b"\xff" * 8 + whole[at + 8 :]
        with suppress(DamagedError):
            read(large)
    spent, (_, most) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 22
    assert spent < 10

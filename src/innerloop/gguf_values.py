"""What a GGUF header's values must be for a model to be made of them, or a tokenizer.

A width of 10⁹ or a block count of 10⁷ is as easily written as a right one, and whoever builds the model from the header
allocates or loops first and compares with the tensors later. So the numbers are held against the tensors here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from innerloop.gguf_header import DamagedError, Header
from innerloop.templates import LONGEST_TEMPLATE

#: Fields of an architecture that are whole numbers, or one for each block, with their bounds.
_WHOLE = {
    "block_count": (1, 1 << 12),
    "context_length": (1, 1 << 30),
    "embedding_length": (1, 1 << 20),
    "feed_forward_length": (0, 1 << 24),
    "vocab_size": (1, 1 << 24),
    "attention.head_count": (0, 1 << 14),
    "attention.head_count_kv": (0, 1 << 14),
    "attention.key_length": (1, 1 << 16),
    "attention.value_length": (1, 1 << 16),
    "attention.sliding_window": (0, 1 << 30),
    "rope.dimension_count": (0, 1 << 16),
    "expert_count": (0, 1 << 14),
    "expert_used_count": (0, 1 << 14),
    "expert_feed_forward_length": (0, 1 << 24),
    "leading_dense_block_count": (0, 1 << 12),
    "nextn_predict_layers": (0, 1 << 6),
}
_SMALL = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")  # above 0 and below 1
_POSITIVE = ("rope.freq_base", "rope.freq_base_swa", "rope.scaling.original_context_length")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOKEN_ID = re.compile(r"tokenizer\.ggml\.\w+_token_id")
_BLOCK = re.compile(r"(?:(?:enc|dec)\.)?blk\.(\d{1,9})\.", re.ASCII)
_LONGEST_TOKEN = 1024  # characters; merges are looked for in all parts of all tokens
_MOST_ADDED = 1 << 16  # tokens that are looked for in every text before it is split
_CONTROL, _USER_DEFINED = 3, 4


def check(header: Header) -> None:
    """DamagedError names the first field whose value cannot be."""
    if not _ARCHITECTURE.fullmatch(header.architecture):
        raise DamagedError(f"general.architecture is {header.fields.get('general.architecture')!r:.80}")
    for name, value in header.fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DamagedError(f"{name} is {value}")
        if isinstance(value, tuple) and value and isinstance(value[0], float) and not all(map(math.isfinite, value)):
            raise DamagedError(f"{name} holds what is no finite number")
    _numbers(header)
    _heads(header)
    _blocks(header)
    _tokenizer(header)
    for name, value in header.fields.items():
        if name.startswith("tokenizer.chat_template") and isinstance(value, str) and len(value) > LONGEST_TEMPLATE:
            raise DamagedError(f"{name} has {len(value):,} characters; more than {LONGEST_TEMPLATE:,} are not read")


def check_complete(header: Header) -> None:
    """DamagedError where the file holds no whole model: a part of one, or a vocabulary alone."""
    parts = header.fields.get("split.count", 1)
    if parts not in (0, 1):
        raise DamagedError(f"it is one of {parts} parts of a model; put them together with llama-gguf-split --merge")
    for name in ("block_count", "embedding_length"):
        if header.own(name) is None:
            raise DamagedError(f"{header.architecture}.{name} is missing")
    if not any(_BLOCK.match(tensor.name) for tensor in header.tensors):
        raise DamagedError("it holds no block of a model (blk.0.…)")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(header: Header) -> None:
    for name, (least, most) in _WHOLE.items():
        value = header.own(name)
        if value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            if not (_whole(one) and least <= one <= most):
                raise DamagedError(f"{header.architecture}.{name} is {one!r:.40}; it is from {least} to {most:,}")
    for name in ("block_count", "context_length", "embedding_length", "vocab_size"):
        if isinstance(header.own(name), tuple):
            raise DamagedError(f"{header.architecture}.{name} is an array; it is one number")
    for name in (*_SMALL, *_POSITIVE):
        value = header.own(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 < value < (1 if name in _SMALL else 1e30)):
            rule = "between 0 and 1" if name in _SMALL else "above 0"
            raise DamagedError(f"{header.architecture}.{name} is {value!r:.40}; it is a number {rule}")


def _heads(header: Header) -> None:
    heads, shared = header.own("attention.head_count"), header.own("attention.head_count_kv")
    if _whole(heads) and _whole(shared) and shared and heads % shared:
        raise DamagedError(f"attention.head_count is {heads}, no multiple of head_count_kv, {shared}")
    width = header.own("embedding_length")
    if _whole(heads) and heads and width and width % heads and header.own("attention.key_length") is None:
        raise DamagedError(f"{header.architecture}.embedding_length is {width}, no multiple of its {heads} heads")


def _blocks(header: Header) -> None:
    """As many blocks as there are tensors of; those that predict tokens further ahead may be left out."""
    blocks = header.own("block_count")
    numbers = {int(match[1]) for tensor in header.tensors if (match := _BLOCK.match(tensor.name))}
    if numbers and blocks is not None and not _one_of_several(header):
        ahead = header.own("nextn_predict_layers") or 0
        if len(numbers) != max(numbers) + 1 or not blocks - ahead <= len(numbers) <= blocks:
            raise DamagedError(f"{header.architecture}.block_count is {blocks}, and {len(numbers)} have tensors")
    width = header.own("embedding_length")
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and width is not None and tensor.shape[0] != width:
            raise DamagedError(f"embedding_length is {width}, and {tensor.name} has rows of {tensor.shape[0]}")


def _one_of_several(header: Header) -> bool:
    return header.fields.get("split.count", 1) not in (0, 1)


def _tokenizer(header: Header) -> None:
    tokens = header.fields.get("tokenizer.ggml.tokens")
    if tokens is None:
        return
    if not isinstance(tokens, tuple) or not tokens or not isinstance(tokens[0], str):
        raise DamagedError("tokenizer.ggml.tokens is no list of texts")
    if (longest := max(map(len, tokens))) > _LONGEST_TOKEN:
        raise DamagedError(f"tokenizer.ggml.tokens holds a token of {longest:,} characters")
    for name in ("scores", "token_type"):
        values = header.fields.get(f"tokenizer.ggml.{name}")
        if values is not None and (not isinstance(values, tuple) or len(values) != len(tokens)):
            many = len(values) if isinstance(values, tuple) else 1
            raise DamagedError(f"tokenizer.ggml.{name} has {many} values for {len(tokens)} tokens")
    _rows(header, len(tokens))
    _added(header.fields.get("tokenizer.ggml.token_type") or ())
    merges = header.fields.get("tokenizer.ggml.merges") or ()
    if not isinstance(merges, tuple) or not all(isinstance(merge, str) and " " in merge for merge in merges):
        raise DamagedError("tokenizer.ggml.merges is no list of pairs of tokens")
    for name, value in header.fields.items():
        if _TOKEN_ID.fullmatch(name) and not (_whole(value) and 0 <= value < len(tokens)):
            raise DamagedError(f"{name} is {value!r:.40}, and there are {len(tokens)} tokens")


def _rows(header: Header, tokens: int) -> None:
    """The embedding has a row for each token; a few more are padding."""
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and not tokens <= math.prod(tensor.shape[1:]):
            raise DamagedError(f"there are {tokens} tokens, and {tensor.name} has {math.prod(tensor.shape[1:])} rows")


def _added(kinds: Sequence[Any]) -> None:
    added = sum(kind in (_CONTROL, _USER_DEFINED) for kind in kinds)
    if added > _MOST_ADDED:
        raise DamagedError(f"tokenizer.ggml.token_type marks {added:,} special tokens, more than {_MOST_ADDED:,}")

"""config.json and generation_config.json: numbers that can be, and that fit the weights beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from innerloop.errors import InputError
from innerloop.model_folder.files import read_json
from innerloop.model_folder.weights import Tensor

_LAYERS = ("num_hidden_layers", "num_layers_per_stack", "n_layer", "n_layers", "num_layers", "num_blocks", "depth",
           "decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers")  # fmt: skip
_WIDTHS = ("hidden_size", "n_embd", "d_model", "vocab_size", "intermediate_size", "n_inner", "ffn_dim", "d_ff",
           "moe_intermediate_size", "shared_expert_intermediate_size", "head_dim")  # fmt: skip
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_key_value_heads")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
_KIND = re.compile(r"[\w|]+")
_SMALL = re.compile(r"norm_?(?:eps|epsilon)$")
_POSITIVE = ("rope_theta", "rotary_emb_base")
_ALWAYS, _USUAL_LAYERS = 4096, 256  # sizes up to it are no burden
_MOST_LAYERS, _MOST_EXPERTS = 1 << 12, 1 << 17  # in all: each takes a hundredth of a second, or a thousandth
_MOST_UNSEEN = 1 << 10  # layers of a model whose weights are not here
_MOST_POSITIONS = 1 << 30
_LARGEST = 1 << 53
_OPEN = re.compile(r"max|limit|window")  # bounds may be infinite, or as good as that
_CODE = ("_attn_implementation", "attn_implementation", "experts_implementation", "_experts_implementation")
_LAYER = re.compile(r"^(.*?)\.(\d{1,9})\.", re.ASCII)


def check(folder: Path, tensors: Mapping[str, Tensor] | None) -> None:
    """InputError names the file, the field and the value that no model is to be built with."""
    if (file := folder / "config.json").exists():
        _check_config(file, read_json(file), tensors)
    if (file := folder / "generation_config.json").exists():
        _check_generation(file, read_json(file))


def _check_config(file: Path, found: dict[str, Any], tensors: Mapping[str, Tensor] | None) -> None:
    for name, number in _numbers(found):
        if number != number or (abs(number) > _LARGEST and not _OPEN.search(name)):
            raise _refused(file, name, number, "no number that a model can have")
    if found.get("transformers_weights") is not None:
        raise _refused(file, "transformers_weights", found["transformers_weights"], "the weights are *.safetensors")
    for part in _objects(found):
        for name in _CODE:
            if not isinstance(value := part.get(name), str | None) or (value and not _KIND.fullmatch(value)):
                raise _refused(file, name, value, "the name of code from elsewhere")
        _check_part(file, part)
    if tensors is not None:
        _check_against(file, found, tensors)
    else:
        _check_alone(file, found)


def _check_part(file: Path, part: dict[str, Any]) -> None:
    """What holds whatever the weights are."""
    for name, value in part.items():
        if _SMALL.search(name) and value is not None and not (_number(value) and 0 < value < 1):
            raise _refused(file, name, value, "it is a number between 0 and 1")
        if name in _POSITIVE and value is not None and not (_number(value) and value > 0):
            raise _refused(file, name, value, "it is a number above 0")
    for name in (*_LAYERS, *_WIDTHS, *_HEADS, *_POSITIONS):
        value, least = part.get(name), 1 if name in _WIDTHS[:4] else 0
        odd = isinstance(value, str | bool) or (isinstance(value, float) and not value.is_integer())
        if odd or (isinstance(value, int | float) and value < least):
            raise _refused(file, name, value, "it is a whole number above 0")
    if any(isinstance(part.get(name), int) and part[name] > _MOST_POSITIONS for name in _POSITIONS):
        name = next(name for name in _POSITIONS if isinstance(part.get(name), int))
        raise _refused(file, name, part[name], f"more than {_MOST_POSITIONS:,} are not read")
    heads = next((part[name] for name in _HEADS[:3] if isinstance(part.get(name), int)), None)
    shared = part.get("num_key_value_heads")
    if heads == 0:
        raise _refused(file, "num_attention_heads", heads, "it is a whole number above 0")
    if heads and isinstance(shared, int) and (shared == 0 or heads % shared):
        raise _refused(file, "num_key_value_heads", shared, f"it divides the {heads} attention heads")


def _check_against(file: Path, found: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """As many layers as there are weights of; nothing wider than the widest of them."""
    counts = _layers(tensors)
    widest = max((max(tensor.shape, default=0) for tensor in tensors.values()), default=0)
    most = max(counts, default=0)
    layers = 0
    for part in _objects(found):
        own = [part[name] for name in _LAYERS if isinstance(part.get(name), int)]
        if too_many := [n for n in own if n > max(most, _USUAL_LAYERS)]:
            raise _refused(file, "num_hidden_layers", max(too_many), f"the weights have {most} layers")
        layers = max(layers, *own, 0)
        for name in _WIDTHS:
            if isinstance(value := part.get(name), int) and value > max(4 * widest, _ALWAYS):
                raise _refused(file, name, value, f"no weight is wider than {widest:,}")
    if most > _MOST_LAYERS:
        raise InputError(f"{file}: the weights have {most:,} layers; more than {_MOST_LAYERS:,} are not read")
    experts = max(
        (part[name] for part in _objects(found) for name in _EXPERTS if isinstance(part.get(name), int)), default=0
    )
    one_by_one = not any(experts in tensor.shape for tensor in tensors.values())
    if experts > widest or experts * layers > (_MOST_EXPERTS if one_by_one else 8 * _MOST_EXPERTS):
        raise _refused(file, "num_experts", experts, f"too many for {layers} layers of width {widest:,}")
    main = found["text_config"] if isinstance(found.get("text_config"), dict) else found
    own = [main[name] for name in _LAYERS if isinstance(main.get(name), int)]
    ahead = main.get("num_nextn_predict_layers")
    extra = ahead if isinstance(ahead, int) else 0
    if own and counts and not any(n <= count <= n + extra for n in own for count in counts):
        raise _refused(file, "num_hidden_layers", own[0], f"the weights have {most} layers")


def _check_alone(file: Path, found: dict[str, Any]) -> None:
    """What can be built, without memory, where the weights are not here: an estimate of costs needs no more."""
    for part in _objects(found):
        layers = [part[name] for name in _LAYERS if isinstance(part.get(name), int)]
        experts = [part[name] for name in _EXPERTS if isinstance(part.get(name), int)]
        if max(layers, default=0) > _MOST_UNSEEN:
            raise _refused(file, "num_hidden_layers", max(layers), f"more than {_MOST_UNSEEN:,} are not read")
        if max(layers, default=1) * max(experts, default=0) > 8 * _MOST_EXPERTS:
            raise _refused(file, "num_experts", max(experts), "too many for its layers")


def _layers(tensors: Mapping[str, Tensor]) -> set[int]:
    """How many layers there are of each kind: distinct numbers behind the same begin of a name."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in tensors:
        if match := _LAYER.match(name):
            found[match[1]].add(match[2])
    return {len(numbers) for numbers in found.values()}


def _check_generation(file: Path, found: dict[str, Any]) -> None:
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        value = found.get(name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not (type(one) is int and -1 <= one < 1 << 31):
                raise _refused(file, name, one, "it is the number of a token, or a list of some")
        if isinstance(value, list) and len(value) > _ALWAYS:
            raise InputError(f"{file}: {name} lists {len(value):,} tokens; more than {_ALWAYS:,} are not read")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """The object itself and those inside it."""
    if isinstance(value, dict):
        yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(entry)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers, with the name of the field that they stand in."""
    if _number(value):
        yield name, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _numbers(entry, key)
    elif isinstance(value, list):
        for entry in value:
            yield from _numbers(entry, name)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(file: Path, name: str, value: Any, why: str) -> InputError:
    return InputError(f"{file}: {name} is {str(value)[:60]}: {why}; correct it, or fetch the file again")

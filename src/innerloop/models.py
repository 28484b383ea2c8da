"""A model by name: weights, tokenizer, chat template, thinking delimiters, answer suffix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop import chat
from innerloop.errors import InputError
from innerloop.gguf_cache import quiet_bars
from innerloop.model_files import resolve
from innerloop.schema import Mode

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SUFFIX = "\n\n**Final Answer**\n\\boxed{"
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."

DType = Literal["auto", "float32", "bfloat16", "float16", "float64"]
_DTYPES = ("float32", "bfloat16", "float16", "float64")
# Of a configuration: what says nothing of what is computed, or is not the same before and after saving.
_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "architectures")
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A causal language model in evaluation mode, its tokenizer, and how to talk to it.

    ``suffix`` is the text s between a trajectory and the answer; ``instruction`` follows the question in the prompt.
    ``think_start`` and ``think_end`` are the thinking delimiters, ``<think>`` and ``</think>`` for a model that has
    none of its own. ``fingerprint`` identifies configuration and weights. ``max_context`` is the largest number of
    tokens the model was made for, where its configuration says so.
    """

    name: str
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    suffix: str
    instruction: str
    think_start: str
    think_end: str
    fingerprint: str
    max_context: int | None
    thinking_switch: str | None = None  # the chat template's variable that turns thinking on and off

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    @property
    def has_thinking_switch(self) -> bool:
        """Whether the chat template itself can turn thinking on and off."""
        return self.thinking_switch is not None

    def prompt(self, question: str, *, mode: Mode = Mode.PLAIN) -> list[int]:
        """Token ids of everything before the trajectory.

        One user turn of the chat template (question, blank line, instruction) and the opening of the model's turn.
        For a model without chat template: question, blank line, instruction and a line break.

        - ``PLAIN``: as the template makes it, with its thinking switch (if any) left alone.
        - ``THINKING``: switch on where there is one; then the opening delimiter and a line break, unless the template
          has already written it.
        - ``NO_THINKING``: switch off where there is one; otherwise the opening delimiter followed by the paper's
          "Therefore, after all this, I believe the answer is".
        """
        text = self.prompt_text(question, mode=mode)
        if self.tokenizer.chat_template is not None:  # the template writes its own special tokens
            return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        ids = list(self.tokenizer(text, verbose=False)["input_ids"])
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids  # the text goes on

    def prompt_text(self, question: str, *, mode: Mode = Mode.PLAIN) -> str:
        """What ``prompt`` tokenises."""
        mode = Mode(mode)
        text = self._template_text(question, mode)
        trimmed = text.rstrip()
        opened = trimmed.endswith(self.think_start)
        if mode is Mode.THINKING and not opened:
            return f"{text}{self.think_start}\n"
        if mode is Mode.NO_THINKING and not self.has_thinking_switch:
            return (trimmed if opened else text + self.think_start) + chat.NO_THINKING_TEXT
        return text

    def opens_thinking(self, mode: Mode) -> bool:
        """Whether the prompt of this mode ends with the opening delimiter, so that a completion begins inside it."""
        return self.prompt_text("", mode=mode).rstrip().endswith(self.think_start)

    def _template_text(self, question: str, mode: Mode) -> str:
        from jinja2 import TemplateError

        content = f"{question}\n\n{self.instruction}" if self.instruction else question
        if self.tokenizer.chat_template is None:
            return f"{content}\n"
        switch: dict[str, Any] = {}
        if self.thinking_switch is not None and mode is not Mode.PLAIN:
            switch[self.thinking_switch] = mode is Mode.THINKING
        turns = [{"role": "user", "content": content}]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **switch))
        except TemplateError as error:
            raise InputError(
                f"the chat template of {self.name} fails on one user turn ({error}); give another chat_template"
            ) from error

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space in front of every text, as those of Llama 2 and Mistral 7B do."""
        return self._raw("a") != self._raw("\na")[len(self._raw("\n")) :]

    def _raw(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that continues another one: no special tokens and no leading space are added."""
        if text and self._adds_space:
            for before in ("\n", ".", "a"):  # one that does not merge with the text
                head, joined = self._raw(before), self._raw(before + text)
                if joined[: len(head)] == head:
                    return joined[len(head) :]
        return self._raw(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included; gives back what ``encode`` took."""
        head = self._raw("a") if self._adds_space else []  # or the decoder drops a leading space
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode([*head, *ids], **options)).removeprefix("a" if head else "")

    @property
    def suffix_ids(self) -> list[int]:
        """Token ids of the suffix s, tokenised apart."""
        return self.encode(self.suffix)

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of a reference answer, tokenised apart; InputError where nothing is left to score."""
        if not answer.strip():
            raise InputError("the answer is empty; give every question an answer to score")
        ids = self.encode(answer)
        if not ids:
            raise InputError(
                f"the answer {answer!r} gives no tokens with the tokenizer of {self.name}; change the answer"
            )
        return ids

    def split_thinking(self, text: str, *, opened: bool = False) -> tuple[str | None, str]:
        """What was thought (``None``: no thinking part) and what was shown; see ``chat.split_thinking``."""
        return chat.split_thinking(text, self.think_start, self.think_end, opened=opened)

    def describe(self) -> dict[str, Any]:
        """What a run's manifest says about the model."""
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "fingerprint": self.fingerprint,
            "max_context": self.max_context,
            "suffix": self.suffix,
            "instruction": self.instruction,
            "think_start": self.think_start,
            "think_end": self.think_end,
            "thinking_switch": self.thinking_switch,
        }


def load(  # the one place where a user says everything about a model
    name: str,
    *,
    dtype: DType = "auto",
    device: str = "auto",
    threads: int | None = None,
    suffix: str | None = None,
    instruction: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load ``smollm2``, a folder, a ``.gguf`` file or a hub id.

    ``dtype`` auto is float32 on a CPU and bfloat16 on a GPU; ``device`` auto is the GPU where there is one. ``threads``
    sets torch's CPU threads. The rest replaces what the model brings along; see ``LoadedModel``. Only safetensors and
    GGUF weights are read. InputError for a name that leads nowhere.
    """
    if dtype not in ("auto", *_DTYPES):
        raise InputError(f"dtype {dtype!r} is not known; use auto, {', '.join(_DTYPES)}")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it must be 1 or more")
    if device not in ("auto", "cpu"):
        _device(device)  # before a long download or conversion
    folder = resolve(name, trust_remote_code=trust_remote_code)
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    place = _device(device)
    kind = _dtype(dtype, place)
    model, tokenizer = _read(name, folder, kind, trust_remote_code=trust_remote_code)
    model.to(place)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return wrap(
        model,
        tokenizer,
        name=name,
        suffix=suffix,
        instruction=instruction,
        think_start=think_start,
        think_end=think_end,
    )


def _read(name: str, folder: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> tuple[Any, Any]:
    """Weights and tokenizer of a folder of safetensors, on the CPU."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    # The grouped product of a mixture's experts has no float64.
    experts = {"experts_implementation": "eager"} if dtype == torch.float64 else {}
    try:
        with quiet_bars():
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            read: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **experts, **options
            )
    except MemoryError as error:
        raise InputError(f"model {name!r} does not fit into memory; try dtype bfloat16") from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"model {name!r} cannot be loaded from {str(folder)!r}: {reason}") from error
    model, info = read
    if info["missing_keys"]:  # transformers would go on with random numbers in their place
        raise InputError(
            f"model {name!r} is no complete causal language model: {str(folder)!r} lacks {len(info['missing_keys'])} "
            f"weights, among them {min(info['missing_keys'])}"
        )
    return model, tokenizer


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    suffix: str | None = None,
    instruction: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
) -> LoadedModel:
    """A ``LoadedModel`` around a model and a tokenizer that are already in memory (trained or made by hand).

    The model itself is put into evaluation mode and its gradients are turned off.
    """
    template = tokenizer.get_chat_template() if tokenizer.chat_template is not None else None
    start, end = chat.find_delimiters(template, tokenizer.get_added_vocab()) or chat.DELIMITERS[0]
    return LoadedModel(
        name=name,
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        suffix=SUFFIX if suffix is None else suffix,
        instruction=INSTRUCTION if instruction is None else instruction,
        think_start=think_start or start,
        think_end=think_end or end,
        fingerprint=fingerprint(model),
        max_context=_max_context(model.config),
        thinking_switch=chat.find_switch(template),
    )


def fingerprint(model: PreTrainedModel) -> str:
    """16 hexadecimal digits that change with the configuration or any weight and are the same on every machine.

    Every row of every weight enters as the sum of its bits, taken as integers modulo 2³², which is exact in any order
    of summation: reading the weights once is enough. A model of another dtype has another fingerprint.
    """
    import torch

    config = model.config.to_diff_dict()
    kept = {key: value for key, value in config.items() if key not in _VOLATILE} | {"class": type(model).__name__}
    digest = hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=8)
    for name, weight in sorted({**dict(model.named_parameters()), **_saved_buffers(model)}.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        rows = weight.detach().reshape(-1, weight.shape[-1] if weight.ndim else 1).contiguous()
        bits = rows.view(torch.int32 if rows.shape[-1] * rows.element_size() % 4 == 0 else torch.uint8)
        digest.update(bits.sum(dim=-1, dtype=torch.int32).cpu().numpy().tobytes())
    return digest.hexdigest()


def _saved_buffers(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    buffers = dict(model.named_buffers())
    return {name: buffers[name] for name in model.state_dict() if name in buffers}


def _device(device: str) -> torch.device:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r} is not known; use auto, cpu, cuda or cuda:N") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPUs; use cpu or auto"
        )
    return place


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    import torch

    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    kind = getattr(torch, dtype)
    assert isinstance(kind, torch.dtype)
    return kind


def _max_context(config: Any) -> int | None:
    config = config.get_text_config()
    for name in _CONTEXT_FIELDS:
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < 10**9:
            return value
    return None

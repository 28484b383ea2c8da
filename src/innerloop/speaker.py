"""How to talk to a model: tokenizer, chat template, instruction, answer suffix, thinking delimiters; no weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from innerloop import chat, plain_json, templates
from innerloop.errors import InputError, first_line
from innerloop.input_files import opened
from innerloop.libraries import told
from innerloop.prompts import INSTRUCTION, turns
from innerloop.schema import Mode, Question
from innerloop.tokenizer_identity import tokenizer_identity

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NoThinking = Literal["switch", "text"]
SUFFIX = "\n\n**Final Answer**\n\\boxed{"
MANNER_FILE = "innerloop.json"  # in a model's folder: how it wants to be talked to, where that is not our default
_LARGEST_MANNER = 1 << 20  # bytes; a longer file is cut off, and no JSON

_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


@dataclass(frozen=True, eq=False, kw_only=True)
class Speaker:
    """A model's tokenizer and how to talk to it; what engines that hold the weights themselves need.

    ``suffix`` is the text s between a trajectory and the answer; ``instruction`` follows the question in the prompt,
    where the question has no template of its own; ``system`` is the system turn of a question that has none.
    ``think_start`` and ``think_end`` are the thinking delimiters, ``<think>`` and ``</think>`` for a model that has
    none of its own. ``no_thinking`` says how no-thinking mode is asked for where the template has a switch: by it, or
    by the paper's text. ``max_context`` is the largest number of tokens the model was made for, where that is known.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    suffix: str = SUFFIX
    instruction: str = INSTRUCTION
    system: str | None = None
    think_start: str
    think_end: str
    max_context: int | None = None
    date: str | None = None  # the day (2025-03-01) that a chat template with a date writes; by default today
    thinking_switch: str | None = None  # the chat template's variable that turns thinking on and off
    no_thinking: NoThinking = "switch"

    @property
    def switches_off(self) -> bool:
        """Whether no-thinking mode is asked for by the chat template's switch, instead of by the paper's text."""
        return self.has_thinking_switch and self.no_thinking == "switch"

    @property
    def has_thinking_switch(self) -> bool:
        """Whether the chat template itself can turn thinking on and off."""
        return self.thinking_switch is not None

    def prompt(self, question: str | Question, *, mode: Mode = Mode.PLAIN) -> list[int]:
        """Token ids of everything before the trajectory.

        The system turn, where there is one, a user turn of the chat template (question, blank line, instruction) and
        the opening of the model's turn. For a model without chat template: the texts of these turns with a blank line
        between them, and a line break. A ``Question`` is put in its own template, or that of its kind, where it has one
        (`innerloop.prompts`).

        - ``PLAIN``: as the template makes it, with its thinking switch (if any) left alone.
        - ``THINKING``: switch on where there is one; then the opening delimiter and a line break, unless the template
          has already written it.
        - ``NO_THINKING``: switch off where there is one; otherwise, or with ``no_thinking`` text, the opening
          delimiter followed by the paper's "Therefore, after all this, I believe the answer is".
        """
        text = self.prompt_text(question, mode=mode)
        if self.tokenizer.chat_template is not None:  # the template writes its own special tokens
            return self._raw(text)
        ids = self._raw(text, special=True)
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids  # the text goes on

    def prompt_text(self, question: str | Question, *, mode: Mode = Mode.PLAIN) -> str:
        """What ``prompt`` tokenises."""
        mode = Mode(mode)
        text = self._template_text(question, mode)
        trimmed = text.rstrip()
        opened = trimmed.endswith(self.think_start)
        if mode is Mode.THINKING and not opened:
            return f"{text}{self.think_start}\n"
        if mode is Mode.NO_THINKING and not self.switches_off:
            return (trimmed if opened else text + self.think_start) + chat.NO_THINKING_TEXT
        return text

    def opens_thinking(self, mode: Mode) -> bool:
        """Whether the prompt of this mode ends with the opening delimiter, so that a completion begins inside it."""
        return self.prompt_text("", mode=mode).rstrip().endswith(self.think_start)

    def _template_text(self, question: str | Question, mode: Mode) -> str:
        messages = turns(question, self.instruction, self.system)
        template = template_of(self.tokenizer, self.name)
        if template is None:
            return "\n\n".join(message["content"] for message in messages) + "\n"
        # As transformers' apply_chat_template has it, whose rendering nothing ends.
        variables = {
            **self.tokenizer.special_tokens_map,
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
        }
        if self.thinking_switch is not None and mode is not Mode.PLAIN:
            variables[self.thinking_switch] = mode is Mode.THINKING or not self.switches_off
        first = messages[0]
        try:
            text = templates.render(template, variables, self._day(question))
        except templates.TemplateFailedError as error:
            what, remedy = ("one user turn", "give another chat_template")
            if first["role"] == "system":
                what, remedy = ("a system and a user turn", "leave the system turn out, or say it in the user's")
            raise InputError(f"the chat template of {self.name} fails on {what} ({error}); {remedy}") from error
        if first["role"] == "system" and first["content"].strip() not in text:
            raise InputError(
                f"the chat template of {self.name} drops the system turn; leave it out, or say it in the user's"
            )
        return text

    @property
    def writes_date(self) -> bool:
        """Whether the chat template writes the day into every prompt."""
        template = template_of(self.tokenizer, self.name)
        return template is not None and templates.writes_date(template)

    def _day(self, question: str | Question) -> str | None:
        return (question.prompt_date if isinstance(question, Question) else None) or self.date

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space in front of every text, as those of Llama 2 and Mistral 7B do."""
        return self._raw("a") != self._raw("\na")[len(self._raw("\n")) :]

    def _raw(self, text: str, *, special: bool = False) -> list[int]:
        with told(f"the tokenizer of {self.name} fails on a text of {len(text):,} characters"):
            return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

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

    @cached_property
    def tokenizer_identity(self) -> str:
        """What tells the tokenizer from all others; token ids are stored with it."""
        return tokenizer_identity(self.tokenizer, self.encode, self.decode)

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

    def manner(self) -> dict[str, Any]:
        """How the model is talked to, for a run's manifest."""
        names = ("max_context", "suffix", "instruction", "system", "think_start", "think_end", "thinking_switch")
        text = {} if self.no_thinking == "switch" else {"no_thinking": self.no_thinking}
        return {name: getattr(self, name) for name in names} | text


def speak(
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    suffix: str | None = None,
    instruction: str | None = None,
    system: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
    no_thinking: NoThinking = "switch",
    date: str | None = None,
    max_context: int | None = None,
) -> Speaker:
    """A speaker around a tokenizer; ``None`` takes what its chat template and vocabulary say, or our defaults."""
    template = template_of(tokenizer, name)
    start, end = chat.find_delimiters(template, tokenizer.get_added_vocab()) or chat.DELIMITERS[0]
    return Speaker(
        name=name,
        tokenizer=tokenizer,
        suffix=SUFFIX if suffix is None else suffix,
        instruction=INSTRUCTION if instruction is None else instruction,
        system=system or None,
        think_start=think_start or start,
        think_end=think_end or end,
        max_context=max_context,
        thinking_switch=chat.find_switch(template),
        no_thinking=no_thinking,
        date=date,
    )


def template_of(tokenizer: PreTrainedTokenizerBase, name: str) -> str | None:
    """The chat template that a tokenizer brings along, its default one where it has several; None where it has none.

    InputError for several without a default and for one that is too long to be one.
    """
    if tokenizer.chat_template is None:
        return None
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise InputError(f"the chat templates of {name}: {first_line(error, 300)}; give a chat_template") from error
    if not isinstance(template, str):
        raise InputError(f"the chat template of {name} is no text; give another chat_template")
    if len(template) > templates.LONGEST_TEMPLATE:
        raise InputError(
            f"the chat template of {name} has {len(template):,} characters, and more than "
            f"{templates.LONGEST_TEMPLATE:,} are not read; give another chat_template"
        )
    return template


def load_speaker(
    name: str,
    *,
    instruction: str | None = None,
    system: str | None = None,
    think_start: str | None = None,
    think_end: str | None = None,
    no_thinking: NoThinking = "switch",
    date: str | None = None,
    trust_remote_code: bool = False,
) -> Speaker:
    """The speaker of ``smollm2``, a folder, a ``.gguf`` file or a hub id, without its weights.

    InputError for a name that leads nowhere.
    """
    from innerloop.gguf_cache import quiet_bars, tokenizer_of
    from innerloop.model_files import locate, tokenizer_folder

    place = locate(name) or tokenizer_folder(name, trust_remote_code=trust_remote_code)
    if place.is_file():
        tokenizer, context = tokenizer_of(place)
    else:
        from transformers import AutoTokenizer

        with told(f"the tokenizer of {name!r} cannot be loaded from {str(place)!r}"), quiet_bars():
            options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
        context = _max_context(place)
        instruction = brought(place, "instruction") if instruction is None else instruction
        system = brought(place, "system") if system is None else system
    return speak(
        tokenizer,
        name=name,
        instruction=instruction,
        system=system,
        think_start=think_start,
        think_end=think_end,
        no_thinking=no_thinking,
        date=date,
        max_context=context,
    )


def brought(folder: Path, name: str) -> str | None:
    """What a model's own `MANNER_FILE` says about ``name``, or None."""
    try:
        with opened(folder / MANNER_FILE) as file:
            text = file.read(_LARGEST_MANNER).decode()
    except (OSError, ValueError):  # none; a pipe; no text
        return None
    value = plain_json.mapping(text).get(name)
    return value if isinstance(value, str) else None


def _max_context(folder: Path) -> int | None:
    """What the model's configuration says, where it says so in a plain field."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return max_context(config.get("text_config", config).get) if isinstance(config, dict) else None


def max_context(field: Callable[[str], Any]) -> int | None:
    """The context that a model was made for, by whatever name its configuration has for it."""
    for name in _CONTEXT_FIELDS:
        value = field(name)
        if isinstance(value, int) and 0 < value < 10**9:
            return value
    return None

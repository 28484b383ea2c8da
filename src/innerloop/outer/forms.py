r"""The form that a rollout is asked for (RaML eq. 21): does it look as it should, whatever it says?

- ``box``: an answer in a closed box after the reasoning;
- ``think-conclusion``, the form of RaML's GRPO: a thinking block, then ``<conclusion>…</conclusion>`` with the box in
  it, and nothing else;
- a regular expression that the whole rollout matches. RE2 matches it in linear time, whatever the rollout says.

A rollout that ends inside its thinking has no form. Where the prompt has opened the thinking, its opening delimiter is
put back before the rollout, so that a form is the same for every chat template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from innerloop.boxed import boxes
from innerloop.chat import split_thinking
from innerloop.errors import InputError
from innerloop.nearest import meant

FORMS = ("box", "think-conclusion")
_NAME = re.compile(r"[\w-]*+")  # no expression worth matching against
_CONCLUSION = ("<conclusion>", "</conclusion>")
_LONGEST = 10_000  # characters of an expression


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form by name or expression; ``thinking`` are the model's delimiters, ``opened``: the prompt has opened it."""

    name: str
    thinking: tuple[str, str]
    opened: bool = False

    def __call__(self, text: str) -> bool:
        """Whether a rollout has the form."""
        whole = self.whole(text)
        if self._inside(whole):
            return False
        if self.name == "box":
            return bool(boxes(split_thinking(whole, *self.thinking)[1]))
        if self.name == "think-conclusion":
            return self._is_think_conclusion(whole)
        return self._expression.fullmatch(whole) is not None

    def whole(self, text: str) -> str:
        """The rollout with the delimiter that the prompt has written."""
        return f"{self.thinking[0]}\n{text}" if self.opened else text

    def example(self, reasoning: str, answer: str, suffix: str) -> str | None:
        """A made-up rollout of this form; None for an expression that none of ours matches."""
        start, end = self.thinking
        close = "}" if suffix.endswith("{") else ""
        before = "" if self.opened else f"{start}\n"
        thought = f"{before}{reasoning}\n{end}"
        opening, closing = _CONCLUSION
        made = (
            f"{thought if self.opened else reasoning}{suffix}{answer}{close}",
            f"{thought}\n{opening}\nThe answer is \\boxed{{{answer}}}.\n{closing}",
            f"{thought}{suffix}{answer}{close}",
        )
        return next((text for text in made if self(text)), None)

    def _inside(self, whole: str) -> bool:
        """Whether the text ends inside a thinking part."""
        start, end = self.thinking
        _, closing, after = whole.rpartition(end)
        return start in (after if closing else whole)

    def _is_think_conclusion(self, whole: str) -> bool:
        start, end = self.thinking
        thought, closing, rest = whole.strip().partition(end)
        said = rest.strip()
        opening, ending = _CONCLUSION
        if not (closing and thought.startswith(start) and said.startswith(opening) and said.endswith(ending)):
            return False
        inner = said[len(opening) : -len(ending)]
        return not any(tag in inner for tag in (opening, ending, start, end)) and bool(boxes(inner))

    @cached_property
    def _expression(self) -> Any:
        return compiled(self.name)


def check_form(name: str) -> None:
    """`InputError` for what is neither a form's name nor a regular expression."""
    if name in FORMS:
        return
    if _NAME.fullmatch(name):
        raise InputError(
            f"--form {name[:60]!r}: {meant(name, FORMS)}it is {', '.join(FORMS)} or a regular expression for the whole "
            "rollout, such as '.*<answer>.*</answer>'"
        )
    compiled(name)


def compiled(expression: str) -> Any:
    """The expression for `fullmatch`, a dot standing for line ends too. `InputError` for what RE2 does not take."""
    import re2

    options = re2.Options()
    options.dot_nl, options.log_errors = True, False
    shown = expression if len(expression) <= 60 else f"{expression[:60]}…"
    if len(expression) > _LONGEST:
        raise InputError(f"--form '{shown}': longer than {_LONGEST:,} characters; write a shorter expression")
    try:
        return re2.compile(expression, options=options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise InputError(
            f"--form '{shown}': no regular expression of RE2 ({said}); look-around and back references are not taken"
        ) from None

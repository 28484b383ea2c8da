"""``string_manipulation``: rewriting rules, the first that applies, until nothing changes or a state comes again.

The rules are reasoning-gym's own functions, found by the sentences that the question lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from innerloop.questions.oracles.oracle import MOST_STEPS, Derivation, Oracle, Step
from innerloop.schema import Question

_RULE = re.compile(r"(?<!\d)\d++\. .+\n")

Rule = Callable[[str], str | None]  # the new string, or None where the rule does not apply


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """The string and the rules, in order."""

    text: str
    rules: tuple[Rule, ...]

    def applying(self, text: str) -> list[tuple[int, str]]:
        """The numbers (from 1) of the rules that apply to a string, each with what it makes of it."""
        made = [(number, rule(text)) for number, rule in enumerate(self.rules, start=1)]
        return [(number, new) for number, new in made if new is not None]


def _read(question: Question) -> Rewriting | None:
    lines = iter(question.question.partition("to the string:\n")[2].splitlines(keepends=True))
    rules = list(takewhile(_RULE.fullmatch, lines))
    asked = any(line.startswith("Transform the following string") and line.endswith(":\n") for line in lines)
    text = next(lines, "").split()[:1]
    known = _rules()
    sentences = [line.rstrip("\n").partition(". ")[2] for line in rules]
    if not sentences or not asked or not text or any(sentence not in known for sentence in sentences):
        return None
    return Rewriting(text=text[0], rules=tuple(known[sentence] for sentence in sentences))


@lru_cache(maxsize=1)
def _rules() -> dict[str, Rule]:
    """reasoning-gym's rules by their sentences; its functions give the new string and a number, 0 for none."""
    from reasoning_gym.algorithmic.string_manipulation import StringManipulationConfig, StringManipulationDataset

    def rule(function: Callable[[str], tuple[str, int]]) -> Rule:
        def apply(text: str) -> str | None:
            made, number = function(text)
            return made if number else None

        return apply

    dataset = StringManipulationDataset(StringManipulationConfig(seed=0))
    return {sentence: rule(function) for sentence, function in dataset.rules}


Look = Callable[[Rewriting, str, Sequence[tuple[int, str]]], list[Step]]


def _method(look: Look) -> Callable[[Rewriting], Derivation | None]:
    """The rewriting itself is forced; ``look`` is how one finds out which rule is the first that applies."""

    def method(task: Rewriting) -> Derivation | None:
        steps: list[Step] = []
        states = [task.text]
        while len(states) <= MOST_STEPS:
            applying = task.applying(states[-1])
            steps += look(task, states[-1], applying)
            if not applying:
                end = f"No rule applies to {states[-1]} any more."
                break
            number, new = applying[0]
            if new in states:
                end = f"Rule {number} leads back to {new}, which was there before, so it stays at {states[-1]}."
                steps.append(Step(short=f"{number}: {new} again", long=f"Rule {number} gives {new} again."))
                break
            slips = tuple(f"{other}: {made}" for other, made in applying[1:] if made != new)
            steps.append(
                Step(short=f"{number}: {new}", long=f"Apply rule {number}: {new}.", slips=slips or _cut(number, new))
            )
            states.append(new)
        else:
            return None
        steps.append(Step(short=f"end {states[-1]}", long=end))
        return Derivation(steps=steps, result=states[-1])

    return method


def _cut(number: int, new: str) -> tuple[str, ...]:
    """A slip where no other rule could be taken by mistake: the last letter is lost on the way."""
    return (f"{number}: {new[:-1]}",) if len(new) > 1 else ()


def _first(task: Rewriting, text: str, applying: Sequence[tuple[int, str]]) -> list[Step]:  # noqa: ARG001
    """Only the rule that is applied is named."""
    return []


def _one_by_one(task: Rewriting, text: str, applying: Sequence[tuple[int, str]]) -> list[Step]:
    """The rules from the top: no, no, yes."""
    last = applying[0][0] if applying else len(task.rules) + 1
    missed = [str(number) for number in range(1, last)]
    if not missed:
        return []
    line = f"{text}: not {', '.join(missed)}"
    return [Step(short=line, long=f"Go through the rules for {text}: {', '.join(missed)} do not apply.")]


def _survey(task: Rewriting, text: str, applying: Sequence[tuple[int, str]]) -> list[Step]:  # noqa: ARG001
    """All rules that apply, of which the first is taken."""
    numbers = ", ".join(str(number) for number, _ in applying) or "none"
    return [Step(short=f"{text}: {numbers}", long=f"Of all rules, these apply to {text}: {numbers}.")]


ORACLE = Oracle(
    family="string_manipulation",
    read=_read,
    methods={"first-rule": _method(_first), "one-by-one": _method(_one_by_one), "survey": _method(_survey)},
)

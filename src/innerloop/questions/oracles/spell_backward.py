"""``spell_backward``: a word from its last letter to its first."""

from __future__ import annotations

import re

from innerloop.questions.oracles.oracle import Derivation, Oracle, Step
from innerloop.schema import Question

_ASKED = re.compile(r"\(example: sun -> nus\): (\S+)\s*$")


def _read(question: Question) -> str | None:
    found = _ASKED.search(question.question)
    return found[1] if found else None


def _from_the_end(word: str) -> Derivation:
    """Letter by letter from the last one on, each put behind."""
    steps: list[Step] = []
    done = ""
    for place in range(len(word), 0, -1):
        letter = word[place - 1]
        done += letter
        says = f"Letter {place} is {letter}: {done}."
        steps.append(_step(f"{place} {letter}: ", done, says))
    return _ended(steps, done)


def _to_the_front(word: str) -> Derivation:
    """Letter by letter from the first one on, each put in front."""
    steps: list[Step] = []
    done = ""
    for letter in word:
        done = letter + done
        before = f"{letter} + {done[1:]}: " if steps else f"{letter}: "
        steps.append(_step(before, done, f"Put {letter} in front: {done}."))
    return _ended(steps, done)


def _halves(word: str) -> Derivation:
    """Take the word apart into halves until they are letters; put them together the other way round."""
    steps: list[Step] = []
    return _ended(steps, _turned(word, steps))


def _turned(word: str, steps: list[Step]) -> str:
    if len(word) < 2:
        return word
    middle = len(word) // 2
    left, right = _turned(word[:middle], steps), _turned(word[middle:], steps)
    says = f"{word} falls into {word[:middle]} and {word[middle:]}; turned and exchanged: {right + left}."
    steps.append(_step(f"{word} -> {right} + {left}: ", right + left, says))
    return right + left


def _ends(word: str) -> Derivation:
    """Exchange the outer letters, then those inside them, up to the middle."""
    letters = list(word)
    steps = []
    for i in range(len(word) // 2):
        j = len(word) - 1 - i
        a, b = letters[i], letters[j]
        letters[i], letters[j] = b, a
        done = "".join(letters)
        steps.append(_step(f"{a} <-> {b}: ", done, f"Exchange letters {i + 1} and {j + 1}, {a} and {b}: {done}."))
    return _ended(steps, "".join(letters))


def _step(before: str, done: str, says: str) -> Step:
    """A step that leaves ``done``; a slip exchanges two neighbouring letters of it."""
    places = [i for i in range(1, len(done)) if done[i - 1] != done[i]]
    slips = tuple(f"{before}{done[: i - 1]}{done[i]}{done[i - 1]}{done[i + 1 :]}" for i in places)
    return Step(short=before + done, long=says, slips=slips)


def _ended(steps: list[Step], done: str) -> Derivation:
    return Derivation(steps=[*steps, Step(short=done, long=f"Backward, the word is {done}.")], result=done)


ORACLE = Oracle(
    family="spell_backward",
    read=_read,
    methods={"from-the-end": _from_the_end, "to-the-front": _to_the_front, "halves": _halves, "ends": _ends},
)

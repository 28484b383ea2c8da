r"""Finding the final answer in what a model showed.

A final answer must be given as one. Thinking is cut away first; then what counts is, last one first:

1. a mark: a closed ``\boxed{}``, ``<answer>…</answer>``, or a line ``#### 18`` (a number). An explicit statement that
   begins after the last mark (``Answer: 24``, ``The correct option is (D).``, a last line ``#### 42 apples``; see
   `statement` for what is explicit) wins over it, because that mark was a step. A mark inside or after the statement
   wins, as does one that is followed by the next question, which the model made up;
2. without any mark, an explicit statement, else any statement (`statement`), else a last line ``#### …``;
3. without that either, a text which is nothing but an answer: one short line with at most one word in it, or an option.

``<think> maybe 42? let me check 17`` therefore holds no answer. The price is that an answer hidden in a sentence
(``… so she has 18 eggs.``) is not found. Of a text that goes on without end, only the last part is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from innerloop import chat
from innerloop.boxed import boxes, last_boxed
from innerloop.evaluate.verify.spans import maths_at
from innerloop.evaluate.verify.statement import Statement, statements, unwrapped

DELIMITERS = chat.DELIMITERS

# Texts come from models, so every pattern takes time in proportion to its text: runs are possessive (`*+`), and a run
# that a match may begin with is entered at its beginning only, `(?<!\s)\s++`.
_NUMBER = re.compile(r"\\?[$€£]?\s*+[-+−]?(?:\d[\d,]*+(?:\.\d++)?|\.\d++)(?:\s*+/\s*+\d++)?\s*+\\?%?")
_HASHES = re.compile(r"^####[ \t]*(?P<answer>\S[^\n]*)$", re.MULTILINE)
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL | re.IGNORECASE)
_NEXT_QUESTION = re.compile(
    r"^\W{0,6}(?:question|problem|q|human|user|instruction|exercise)\b[ \t]{0,4}\d{0,4}\W{0,4}:",
    re.IGNORECASE | re.MULTILINE,
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_LABELLED = re.compile(r"\**(?:\([A-Za-z]\)|[A-Za-z]\)|[A-Z][.:])\s")  # an option: "(B) The Peace of Utrecht"
_SEARCHED = 1 << 18  # characters at the end of what is shown; no answer of a model that came to an end is as long
_BARE = 60  # characters that a text which is nothing but an answer may have


@dataclass(frozen=True, kw_only=True)
class Final:
    """A final answer as it is written; ``sentence`` is all of the sentence where the answer was cut from one."""

    answer: str
    sentence: str | None = None


def visible(text: str, delimiters: Sequence[tuple[str, str]] = DELIMITERS, strip: str | None = None) -> str:
    """The text without thinking: what follows the last end of thinking, and nothing after an open beginning.

    ``strip`` are the characters that are taken away at both ends, all white space by default.
    """
    return chat.without_thinking(text, delimiters).strip(strip)


def searched(text: str, delimiters: Sequence[tuple[str, str]] = DELIMITERS) -> str:
    """What is shown of a text, its end where it is very long: the part that a final answer is looked for in."""
    return visible(text, delimiters)[-_SEARCHED:]


def extract_answer(
    text: str, *, complete: bool = True, delimiters: Sequence[tuple[str, str]] = DELIMITERS
) -> str | None:
    """The final answer as it is written, or None where none is given; see the module for what counts.

    ``complete=False`` says that the text was cut off at its end: then a statement in its last sentence does not
    count, because it may have been cut too (``The answer is 1``…).
    """
    found = final(text, complete=complete, delimiters=delimiters)
    return found.answer if found is not None else None


def final(text: str, *, complete: bool = True, delimiters: Sequence[tuple[str, str]] = DELIMITERS) -> Final | None:
    """As `extract_answer`, with the sentence that the answer was cut from."""
    shown = searched(text, delimiters)
    mark = _mark(shown)
    whole = shown if complete else shown[: max(shown.rfind("\n"), shown.rfind(". "), 0)]
    stated = _stated(whole, complete=complete, mark=mark)
    if stated is not None:
        return Final(answer=stated.answer, sentence=stated.sentence)
    answer = mark[1] if mark is not None else _bare(shown) if complete else None
    return Final(answer=answer) if answer else None


def _mark(text: str) -> tuple[int, str] | None:
    """Where the last mark ends, and what it holds (nothing, where all that it holds are marks)."""
    marks = [(box.end, box.content) for box in boxes(text)[-1:]]
    marks += [(tag.end(), tag.group(1).strip()) for tag in _TAG.finditer(text)]
    hashes = ((line.end(), line["answer"].strip()) for line in _HASHES.finditer(text))
    marks += [(end, answer) for end, answer in hashes if _NUMBER.fullmatch(answer)]
    marks = [(end, answer) for end, answer in marks if answer]
    if not marks:
        return None
    end, answer = max(marks, key=lambda mark: mark[0])
    return end, last_boxed(answer) or _without_dollars(answer)


def _stated(text: str, *, complete: bool, mark: tuple[int, str] | None) -> Statement | None:
    """The statement that counts: the last explicit one that no mark follows, or the last one where there is no mark."""
    begin = mark[0] if mark is not None else 0
    if mark is not None and (question := _NEXT_QUESTION.search(text, begin)) is not None:
        text = text[: question.start()]
    found = [statement for statement in statements(text) if statement.start >= begin]
    last_line = text.rstrip().rpartition("\n")[2].strip()
    hashes = _HASHES.fullmatch(last_line) if complete else None
    if hashes is not None and (answer := unwrapped(hashes["answer"])):
        place = text.rfind(last_line)
        found += [Statement(start=place, answer=answer, sentence=answer, explicit=True)] if place >= begin else []
    explicit = [statement for statement in found if statement.explicit]
    if explicit or mark is not None:
        return explicit[-1] if explicit else None
    return found[-1] if found else None


def _bare(text: str) -> str | None:
    fits = 0 < len(text) <= _BARE and "\n" not in text and "?" not in text
    few = fits and (len(_WORD.findall(_COMMAND.sub(" ", text))) <= 1 or _LABELLED.match(text) is not None)
    return unwrapped(text) if few else None


def _without_dollars(answer: str) -> str:
    maths = maths_at(answer)
    return maths.content if maths is not None and maths.end == len(answer) else answer

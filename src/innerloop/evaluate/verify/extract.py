r"""Finding the final answer in what a model showed.

A final answer must be given as one. Thinking is cut away first; then what counts is, last one first:

1. an explicit mark: a closed ``\boxed{}``, ``<answer>…</answer>``, or a line ``#### 18`` (a number);
2. without any, a plain statement: a last line ``#### …``, ``the final answer is …``, ``the answer is …``,
   ``Answer: …``, or a heading *Final answer* with the answer in the next line;
3. without that either, a text which is nothing but an answer: one short line with at most one word in it.

``<think> maybe 42? let me check 17`` therefore holds no answer. The price is that an answer hidden in a sentence
(``… so she has 18 eggs.``) is not found. Of a text that goes on without end, only the last part is searched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from innerloop.boxed import boxes, last_boxed

DELIMITERS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)

# Texts come from models, so every pattern takes time in proportion to its text: runs are possessive (`*+`), and a run
# that a match may begin with is entered at its beginning only, `(?<!\s)\s++`.
_NUMBER = re.compile(r"\\?[$€£]?\s*+[-+−]?(?:\d[\d,]*+(?:\.\d++)?|\.\d++)(?:\s*+/\s*+\d++)?\s*+\\?%?")
_HASHES = re.compile(r"^####[ \t]*(?P<answer>\S[^\n]*)$", re.MULTILINE)
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL | re.IGNORECASE)
_STATEMENT = re.compile(
    r"(?:\b(?:(?:the|my|our)\s+(?:(?:final|correct|best)\s+)?(?:answer|option|choice)|final\s+answer)\b"
    r"(?:\s+to\s+(?:the|this)\s+\w+)?[*_\s]{0,8}(?:\bis\b|=|:)|^[*_#\s]{0,8}answer[*_]{0,4}\s?:)"
    r"[*_:\s]{0,8}(?P<said>\S[^\n]*)"
    r"|^[*_#\s]{0,8}final\s+answer[*_:\s]{0,12}$\n\s{0,8}(?P<next>\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_MATHS = re.compile(
    r"\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|(?<!\\)\$+(?P<dollar>(?:[^$\\]|\\.)+)\$+", re.DOTALL
)
_END = re.compile(
    r"(?<!\d)\.(?=\s|$)|\.$|\.(?=\s++[A-Z])|[,;]\s++(?=[a-z]{2})"
    r"|(?<!\s)\s++(?:because|since|as|which|so|where|when)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"(?:not|maybe|perhaps|probably|possibly|likely|unclear|unknown|correct|incorrect|wrong|indeed|therefore)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SEARCHED = 1 << 18  # characters at the end of what is shown; no answer of a model that came to an end is as long
_BARE = 60  # characters that a text which is nothing but an answer may have


def visible(text: str, delimiters: Sequence[tuple[str, str]] = DELIMITERS, strip: str | None = None) -> str:
    """The text without thinking: what follows the last end of thinking, and nothing after an open beginning.

    ``strip`` are the characters that are taken away at both ends, all white space by default.
    """
    for start, end in delimiters:
        if not (start and end):  # a model without thinking
            continue
        text = text[text.rfind(end) + len(end) :] if end in text else text
        text = text.partition(start)[0]
    return text.strip(strip)


def searched(text: str, delimiters: Sequence[tuple[str, str]] = DELIMITERS) -> str:
    """What is shown of a text, its end where it is very long: the part that a final answer is looked for in."""
    return visible(text, delimiters)[-_SEARCHED:]


def extract_answer(
    text: str, *, complete: bool = True, delimiters: Sequence[tuple[str, str]] = DELIMITERS
) -> str | None:
    r"""The final answer as it is written, or None where none is given; see the module for what counts.

    ``complete=False`` says that the text was cut off at its end: then a statement in its last sentence does not
    count, because it may have been cut too (``The answer is 1``…).
    """
    shown = searched(text, delimiters)
    if (marked := _marked(shown)) is not None:
        return marked or None
    if not complete:
        shown = shown[: max(shown.rfind("\n"), shown.rfind(". "), 0)]
    return _stated(shown) or (_bare(shown) if complete else None) or None


def _marked(text: str) -> str | None:
    marks = [(box.end, box.content) for box in boxes(text)[-1:]]
    marks += [(tag.end(), tag.group(1).strip()) for tag in _TAG.finditer(text)]
    hashes = ((line.end(), line["answer"].strip()) for line in _HASHES.finditer(text))
    marks += [(end, answer) for end, answer in hashes if _NUMBER.fullmatch(answer)]
    marks = [(end, answer) for end, answer in marks if answer]
    if not marks:
        return None
    answer = max(marks, key=lambda mark: mark[0])[1]
    return last_boxed(answer) or _without_dollars(answer)


def _stated(text: str) -> str | None:
    last_line = text.rstrip().rpartition("\n")[2].strip()
    if (hashes := _HASHES.fullmatch(last_line)) is not None:
        return _unwrap(hashes["answer"])
    found = None
    for match in _STATEMENT.finditer(text):
        said = (match["said"] or match["next"]).strip().strip("*_").strip()
        maths = _MATHS.match(said)
        if maths is not None:
            found = next(group for group in maths.groups() if group is not None).strip()
        elif not _HEDGE.match(said) and "?" not in said:
            found = _unwrap(_END.split(said, maxsplit=1)[0]) or found
    return found


def _bare(text: str) -> str | None:
    fits = 0 < len(text) <= _BARE and "\n" not in text and "?" not in text
    return _unwrap(text) if fits and len(_WORD.findall(_COMMAND.sub(" ", text))) <= 1 else None


def _unwrap(answer: str) -> str:
    """Without emphasis, dollar signs around it and the full stop behind it."""
    answer = answer.strip().strip("*_").strip()
    return _without_dollars(answer.removesuffix(".") if not answer.endswith("..") else answer)


def _without_dollars(answer: str) -> str:
    maths = _MATHS.fullmatch(answer)
    return next(group for group in maths.groups() if group is not None).strip() if maths else answer

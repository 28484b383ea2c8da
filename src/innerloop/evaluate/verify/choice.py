r"""Verifier ``choice``: the letter of an option, in any form in which answers give it.

- Alone or as a label before the option's text: ``B``, ``(b)``, ``[[B]]``, ``B. Paris``, ``b) 4``, ``E - a score``,
  ``E, risk``, ``E \text{ (risk)}``. Letters in the option's text are none.
- Named in a sentence: ``option B``, ``I think it is C``, ``C is correct``, ``Paris (B)``.
- Full-width and circled letters are read as plain ones. ``A`` and ``I`` before a word are words (``A train``).
- Two different letters are none, unless one is ruled out explicitly (``D. A is incorrect``, ``not B but D``).
"""

from __future__ import annotations

import re

from innerloop.evaluate.verify.plain import plain
from innerloop.schema import Outcome, Question, Verdict
from innerloop.text_forms import nfkc

_ROUND = r"[(\[{<]{0,2}"  # brackets around a letter
_CLOSED = r"[)\]}>]{0,2}"
_LETTER = rf"{_ROUND}(?<![\w'’])[A-Za-z](?![\w'’]){_CLOSED}"
_NAMED = r"(?:(?i:options?|choices?|answers?|letter)\s++)"
_LETTERS = (
    rf"{_NAMED}?{_LETTER}(?:\s*+(?:,|/|&|\b(?:and|or|nor)\b)\s*+(?:(?:and|or|nor)\b\s*+)?{_NAMED}?{_LETTER}){{0,8}}"
)

_RULED_OUT = re.compile(
    rf"(?:[,;.]\s*+)?(?:\b(?:and|but)\s++)?\b(?:not|never|neither|rather\s++than|instead\s++of)\s++{_LETTERS}(?!\.?\w)"
    rf"|(?:(?<=[.;,])|\b(?:and|but|while|whereas|because|since|as)\b|\A)\s*+{_LETTERS}"
    r"\s++(?:is|are|was|were|can\s?not|can't|isn't|aren't)\s++"
    r"(?:(?:both|all|clearly|definitely|therefore|also|each|simply)\s++){0,2}"
    r"(?:incorrect|wrong|false|out\b|ruled|excluded|impossible|(?:not|be)\s++(?:\w{1,12}+\s++){0,2}"
    r"(?:correct|right|true|possible|the\s++answer|it|an?\s++option))"
    r"[^.;,\n]{0,80}",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"{_ROUND}([A-Za-z]){_CLOSED}[.:,;!]?")
_LABEL = re.compile(
    r"[(\[<]{1,2}([A-Za-z])[)\]>]{1,2}(?!\s*+[-+*/^=]\s*+\w)"  # (b) four
    r"|([A-Za-z])[)\]](?=\s*+\S)"  # b) 4
    r"|([A-Za-z])[.](?=\s++\S)|([A-Z])[.](?![A-Za-z](?:\W|\Z))(?=\s*+\S)|([A-Za-z]):(?=\s*+\S)"  # b. 4, B.Paris, B: 4
    r"|([A-Za-z])(?:\s?[—–]|\s?--|\s-)\s++(?=\S)"  # E - a score of risk
    r"|([A-Za-z]),\s++(?=\S\S)"  # E, risk
    r"|([A-Z])\s++(?=\([^()]*+\)[.]?\Z)"  # E (risk)
    r"|([B-HJ-Z])\s++(?=[(\[\"“‘\d])"
)
_STATED = re.compile(
    rf"\b(?i:is|be|it's|it’s|choose|chose|pick|select|options?|choices?|answers?|letter)(?:\s*+:)?\s*+(?:(?:the\s++)?{_NAMED})?"
    rf"{_ROUND}(?<![\w'’])([A-Z])(?![\w'’]){_CLOSED}(?=[.,;:!\s—–]|\Z)"
    rf"|\b{_NAMED}[(\[]([a-z])[)\]]|\b{_NAMED}([a-z])[.:]?\Z"
    rf"|(?:\A|[.,;]\s*+|\bso\s++|\bthus\s++)(?:{_NAMED})?{_ROUND}([A-Z]){_CLOSED}\s++(?:is|must\s++be)\s++(?:the\s++)?"
    r"(?:correct|right|best|true|answer|one)\b"
    r"|\(([A-Z])\)\.?\Z"
)
_ARTICLE = re.compile(r"\s++(?!(?:is|because|since|as|and|or|but|so|which|for)\b)[^\W\d_]", re.IGNORECASE)

_BETWEEN = r"(?:[;&/|=≈→⇒]|[-=]>|\\[a-z]++|\b(?:or|to|vs|then)\b)"
_HEDGE = rf"(?:(?:maybe|perhaps|possibly|probably|even)\s++|{_NAMED}){{0,3}}"
_SEVERAL = re.compile(
    rf"{_LETTER}[.:]?(?:\s*+(?:,|[-–—]|\band\b|\bor\b|{_BETWEEN})\s*+(?:(?:and|or)\b\s*+)?{_NAMED}?{_LETTER})++[.:]?"
    r"|(?:[(\[][A-Za-z][)\]]\s*+){2,}|[A-Z]\s++\([A-Z]\)",
    re.IGNORECASE,
)
# a second label, written as the first one, further on: "(A) Paris or (B) London"; a letter in an option's text is none
_SECOND = re.compile(
    rf"(?:,|{_BETWEEN})\s*+{_HEDGE}[(\[]?([A-Z])[)\]]|{_BETWEEN}\s*+{_HEDGE}([A-Z])[.:](?!\w)"
    r"|(?:[≈→⇒]|[-=]>|\\[a-z]++)\s*+([A-Z])$|\b(?:or|and)\s++(?:option|choice)\s++([A-Z])\b"
    r"|[.;,]\s++(?:but\s++|and\s++|or\s++)?([A-Z])\s++is\s++(?:also\s++|actually\s++|the\s++){0,2}"
    r"(?:correct|right|true|answer|possible|fine)\b"
)


_LIST = re.compile(
    rf"(?<![\w'’])[A-Z](?![\w'’]){_CLOSED}\s*+(?:,|/|&|\b(?:and|or)\b)\s*+{_NAMED}?{_ROUND}[A-Z](?![\w'’])"
)


def letter(text: str) -> str | None:
    """The upper-case letter that an answer names; None where it names none or several."""
    text = _trimmed(nfkc(plain(text)).replace("**", ""))
    text = _trimmed(_RULED_OUT.sub(" ", text).strip().removeprefix("but "))
    if _SEVERAL.fullmatch(text):
        return None
    label = _ALONE.fullmatch(text) or _LABEL.match(text)
    if label is None:
        found = {_first(match) for match in _STATED.finditer(text) if not _is_article(text, match)}
        several = len(found) > 1 or _SECOND.search(text) or _LIST.search(text)
        return None if several or not found else found.pop()
    others = {_first(second) for second in _SECOND.finditer(text, label.end() - 1)}
    return None if others - {_first(label)} else _first(label)


def _trimmed(text: str) -> str:
    return text.strip("*_ \n.,;`\"'“”$。、")


def _first(match: re.Match[str]) -> str:
    return str(next(filter(None, match.groups()))).upper()


def _is_article(text: str, match: re.Match[str]) -> bool:
    """Whether a letter is the word ``A`` or ``I``."""
    place = match.end(match.lastindex or 0)
    return _first(match) in "AI" and match.end() == place and _ARTICLE.match(text, place) is not None


def judge(question: Question, answer: str) -> Verdict:
    """Right where the letters agree; undecided where the reference is no letter."""
    reference, given = letter(question.answer), letter(answer)
    if reference is None:
        reason = f"the reference answer '{question.answer[:40]}' is no single letter"
        return Verdict(outcome=Outcome.UNDECIDED, reason=reason, answer=answer)
    if given is None:
        return Verdict(outcome=Outcome.WRONG, reason="the final answer is no single letter", answer=answer)
    return Verdict(outcome=Outcome.RIGHT if given == reference else Outcome.WRONG, answer=answer)

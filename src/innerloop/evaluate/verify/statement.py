r"""Statements of an answer: ``the answer is …``, ``Answer: …``, ``The correct option is …``, a heading *Final answer*.

Several may be in one line; each ends where the next one begins (`sentence` finds the end of its answer). These are no
statements: a question (``the answer is 5?``), a hedge (``probably 5``), a judgement (``the answer is wrong``), a
condition (``if the answer is 5``), the mention of another one (``this answer``, ``your answer``).

An *explicit* statement gives a value and nothing else: an option, a number with its unit, maths, something in quotes,
brackets or bold, a name, yes or no. After a label (``Answer:``, ``Final answer:``) at the beginning of a line a few
words are explicit too, and a sentence with a single number. A value that is called approximate is not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from innerloop.evaluate.verify.sentence import answer_end
from innerloop.evaluate.verify.spans import maths_at


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A stated answer, where the statement begins, and all of the sentence that the answer was cut from."""

    start: int
    answer: str
    sentence: str
    explicit: bool


_NOUN = re.compile(r"\b(?:answer|option|choice|ans)\b", re.IGNORECASE)
_KIND = r"(?:final|correct|best|right|actual|exact|numerical|required|desired|ultimate|overall|most\s++\w{3,20}+)"
_BEFORE = re.compile(rf"\b(?:(?:the|my|our)\s++(?:{_KIND}\s++){{0,2}}|(?:final|correct)\s++)\Z", re.IGNORECASE)
_LABEL = re.compile(r"[*_#>\s]*+(?:(?:the|my|our)\s++)?(?:(?:final|correct)\s++)?", re.IGNORECASE)
_SENTENCE_START = re.compile(
    r"(?:[.:;,!?)(\]*_—–-][*_\s]{0,4}|\b(?:so|hence|thus|therefore|then)\s++)\Z", re.IGNORECASE
)
_CONDITION = re.compile(
    r"\b(?:if|whether|suppose|supposing|assume|assuming|unless|imagine|why|until|check|checking|verify|verifying|doubt"
    r"|not\s++(?:sure|certain|clear|that)|(?:might|may|could|would)\s++(?:think|expect|guess|believe)"
    r"|tempting\s++to\s++\w++)\s++(?:if\s++|that\s++)?\Z",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"(?:\s++(?:to|for|of)\s++(?:the|this|that|your|our)\s++\w{1,30}+(?:\s++\w{1,30}+){0,2}?)?[*_\s]{0,8}"
    r"(?:\b(?:is|are|equals|must\s++be|will\s++be|has\s++to\s++be)\b|=|[:：])(?P<gap>[*_:：\s]{0,8})",
    re.IGNORECASE,
)
_HEADING = re.compile(r"[*_:]{0,6}[^\S\n]{0,6}\n(?P<gap>\s{0,8})")
_BEFORE_LONGEST = 80  # characters before the noun that are looked at

_JOINT = re.compile(  # what leads from one statement to the next
    r"(?<![\s,;])[\s,;]++(?:(?:and|or|so|but|thus|therefore|hence|then|now|since|because)\b[\s,;]*+){0,2}\Z",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:,\s*+)?(?:(?:I\s++(?:think|believe|say|choose|pick|guess)(?:\s++that)?|simply|just|exactly|thus|therefore|indeed|hence"
    r"|actually|clearly|definitely|certainly|then|that)(?:,\s*+|\s++))*+(?:(?:[Ii]t(?:'s|’s|\s++is)|[Tt]his\s++is)\s++)?"
)
_NOT_BUT = re.compile(r"not\s++[^,.;\n]{1,40}?(?:,?\s++but(?:\s++rather)?|,\s++(?:it's|it\s++is|rather))\s++(?=\S)")
_HEDGE = re.compile(
    r"(?:not|maybe|perhaps|probably|possibly|likely|unlikely|unclear|unknown|correct|incorrect|wrong|indeed|therefore"
    r"|consistent|reasonable|plausible|sensible|valid|invalid|obvious|clear|supposed|expected|already|also|still"
    r"|neither|n't)\b(?![-/])",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(?<![\w*])\*\*(?![\s*])([^*\n]++)\*\*(?![\w*])")
_NUMBER = re.compile(r"[-+−]?\s*+(?:\d[\d,]*+(?:\.\d++)?|\.\d++)")
_UNIT = re.compile(r"\s*+(?:\\?%|[^\W\d_]{1,20}(?:[ /](?!(?:is|are|was|were)\b)[^\W\d_]{1,20}){0,2})")
_GOES_ON = re.compile(r"\s*+(?:=|≈|&|(?:,\s*+)?(?:or\b|(?:and|to)\s++(?=[$\\\d(-]|[A-Z]\b))|,\s*+(?=[$\\\d]))")
_LINKED = re.compile(r"(?:[=≈]|\b(?:or|and|not|than|least|most))\s*+\Z", re.IGNORECASE)
_MULTIPLIED = re.compile(
    r"\b(?:dozen|times|pairs?|hundred|thousand|million|billion|half|third|quarter)s?\b", re.IGNORECASE
)
_DOLLARS = re.compile(r"[-−]?\\?\$\s?[-−]?\d[\d,]*+(?:\.\d++)?[^=≈\d]{0,30}")
_OPERATION = re.compile(r"(?<=.)[-+−*×/÷]")
_OR = re.compile(r"[≈]|\bor\b")
_REMARK = re.compile(
    r"(?P<answer>[-−]?(?:\\?\$\s?)?\d[\d,]*+(?:\.\d++)?[^\d()=≈]{0,30})\((?![^()]*(?:\b(?:or|and|not|i\.e|maybe|mod|base)\b|[=≈]))[^()]++\)"
)
_REASON = re.compile(r"(?P<answer>[^()]++)\((?:because|since|as|which|see|from|where)\b[^()]*+\)")

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}+")
_COMMAND = re.compile(r"\\(?:text|mathrm|mbox)[a-z]*+\{[^{}]*+\}|\\[A-Za-z]++")
_APPROXIMATE = re.compile(r"(?:about|approx|roughly|around|nearly|almost|some|close)|\\approx|[≈~]", re.IGNORECASE)
_OPTION = re.compile(
    r"(?:option\s++|choice\s++)?(?:[(\[]{0,2}[A-Z][)\]]{0,2}[.:]?|[(\[][A-Za-z][)\]].{0,200}|[A-Z][).:]\s.{1,200})",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    r"[-+−]?\s?\\?[$€£¥₹]?\s?[-−]?(?:\d[\d,]*+(?:[.:]\d++)?|\.\d++)(?:\s?/\s?\d++)?\s?(?:\\?%|°)?"
    r"(?:[ -](?!(?:more|less|fewer|times|than|or|and|to)\b)[^\W\d_][\w.°²³/^-]{0,24}){0,4}"
)
_NAME = re.compile(
    r"(?!(?:The|It|This|That|These|We|I|You|There|In|As|To|A|An|If|So)\b)[A-Z][\w.'’-]*+(?:,?\s(?:[A-Z][\w.'’-]*+|of|de|and)){0,4}"
)
_YES = re.compile(r"(?:yes|no|true|false|none|never|always)", re.IGNORECASE)
_ENCLOSED = ('"', "'", "“", "‘", "`", "[", "{", "(", "\\{")
_SOLE = re.compile(r"(?<![\w.,])\d[\d,]*+(?:\.\d++)?(?![\w])")
_FEW = 5  # words after a label
_LONGEST = 300  # characters of an answer that its form is looked at


def statements(text: str) -> Iterator[Statement]:
    """All statements in order."""
    opened = list(_openings(text))
    ends = [*(start for start, _, _ in opened), len(text)][1:]
    for (start, begin, label), after in zip(opened, ends, strict=True):
        body = _JOINT.sub("", text[begin:after]) if after < len(text) else text[begin:after]
        if body and (found := _read(body, bold=text[begin - 2 : begin] == "**", label=label)) is not None:
            yield Statement(start=start, answer=found[0], sentence=found[1], explicit=found[2])


def _openings(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where statements begin, where what they state begins, and whether they are labels at the beginning of a line."""
    for noun in _NOUN.finditer(text):
        window = text[max(0, noun.start() - _BEFORE_LONGEST) : noun.start()]
        line = window[window.rfind("\n") + 1 :]
        label = len(line) < _BEFORE_LONGEST and _LABEL.fullmatch(line) is not None
        short = noun.group().lower() == "ans"
        verb = _VERB.match(text, noun.end())
        if verb is None:
            verb = _HEADING.match(text, noun.end()) if label and line.strip() and not short else None
        before = _BEFORE.search(window)
        free = label or _SENTENCE_START.search(window) is not None
        if verb is None or not (before is not None or (free and noun.group().lower() in ("answer", "ans"))):
            continue
        if short and ":" not in verb.group():
            continue
        start = before.start() if before is not None else len(window)
        if _CONDITION.search(window[:start]) is None:
            yield noun.start() - len(window) + start, verb.end(), label and "is" not in verb.group().lower()


def _read(body: str, *, bold: bool, label: bool) -> tuple[str, str, bool] | None:
    """The answer at the beginning of a text, the sentence it is in, and whether it is explicit."""
    begin = _lead(body)
    if _HEDGE.match(body, begin):
        return None
    maths = maths_at(body, begin)
    if maths is not None and maths.content and not _GOES_ON.match(body, maths.end):
        line = body[maths.end :].partition("\n")[0]
        unit = _UNIT.match(line) if _NUMBER.fullmatch(maths.content) else None
        whole = unit is not None and answer_end(line)[0] == unit.end()
        answer = f"{maths.content} {unit.group().strip()}" if unit is not None and whole else maths.content
        return answer, answer, True
    line = body[begin:].partition("\n")[0].strip()
    bold = bold and line.count("**") % 2 == 1
    line = f"**{line}" if bold else line
    end, asked = answer_end(line)
    answer = unwrapped(line[:end].rstrip(" ,;:—–").removesuffix(" -"))
    if asked or not answer:
        return None
    answer = _stressed(line, end) or _without_remarks(answer)
    return (
        answer,
        unwrapped(body.partition("\n")[0].strip()).removesuffix("."),
        _explicit(answer, bold=bold, label=label),
    )


def _stressed(line: str, end: int) -> str | None:
    """The only amount that a sentence prints in bold: ``Terry spends **$75** in 30 days``."""
    bold = list(itertools.islice(_BOLD.finditer(line, 0, end + 2), 2))
    if len(bold) != 1 or _GOES_ON.match(line, bold[0].end()) or _LINKED.search(line, 0, bold[0].start()):
        return None
    amount = bold[0].group(1).strip().removesuffix(".")
    return amount if _AMOUNT.fullmatch(amount) and not _MULTIPLIED.search(amount) else None


def _without_remarks(answer: str) -> str:
    """Without what is in brackets after an amount, a reason in brackets, and the sum that an amount comes from."""
    if len(answer) > _LONGEST:
        return answer
    dollars = "$" in answer
    remark = (_REMARK.fullmatch(answer) if dollars else None) or _REASON.fullmatch(answer)
    answer = remark["answer"].strip() if remark is not None else answer
    *terms, last = (side.strip() for side in answer.split("="))
    money = dollars and _DOLLARS.fullmatch(last) and not _OR.search(answer)
    return last if money and all(_OPERATION.search(term) for term in terms) else answer


def _lead(body: str) -> int:
    """Where what is stated begins, after ``I think it is`` and ``not B but``."""
    place = len(body) - len(body.lstrip())
    for lead in (_LEAD, _NOT_BUT, _LEAD):
        match = lead.match(body, place)
        place = match.end() if match is not None and body[match.end() :].strip() else place
    return place


def unwrapped(answer: str) -> str:
    """Without emphasis and the dollar signs of maths around it, and the full stop after it."""
    if answer.startswith("**"):
        answer = _BOLD.sub(r"\1", answer)
    answer = answer.strip().strip("*_").strip()
    if answer.endswith(".") and not answer.endswith("..") and answer_end(answer)[0] == len(answer) - 1:
        answer = answer[:-1]
    maths = maths_at(answer)
    return maths.content if maths is not None and maths.end == len(answer) else answer


def _explicit(answer: str, *, bold: bool, label: bool) -> bool:
    if len(answer) > _LONGEST or _APPROXIMATE.match(answer):
        return False
    words = len(_WORD.findall(_COMMAND.sub(" ", answer)))
    forms = (_OPTION, _AMOUNT, _NAME, _YES)
    if bold or not words or answer.startswith(_ENCLOSED) or any(form.fullmatch(answer) for form in forms):
        return True
    return label and (words <= _FEW or len(_SOLE.findall(answer)) == 1)

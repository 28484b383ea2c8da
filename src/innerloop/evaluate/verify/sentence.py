"""Where the answer in a sentence ends: ``St. Louis. I hope so`` is ``St. Louis``, ``42, because …`` is ``42``.

- At a full stop, unless it belongs to an abbreviation (``St.``, ``e.g.``, ``4:30 p.m.``), an initial (``J. Smith``,
  ``D. Paris``) or a number. After an abbreviation that may end a sentence, the next word decides.
- At the beginning of an explanation: ``because``, ``since`` and the like, and ``so``, ``when``, ``where``, ``as``,
  ``which`` where a clause follows. ``Say When`` has none; a word with a capital is part of a name.
- At a comma, where a value comes first (a number with its unit, an option, maths) and no other value follows, or
  where an explanation follows. ``red, green, blue`` is a list, ``Paris, the capital of France`` is not.

Nothing ends inside of maths, quotes and brackets.
"""

from __future__ import annotations

import re

from innerloop.evaluate.verify.spans import outside, together
from innerloop.evaluate.verify.values.words import listed

_BREAK = re.compile(
    r"(?P<stop>(?<![.!?])[.!?]++)(?=[*_\"'”’)\]]*+(?:\s|$))"
    r"|(?P<mark>(?<!\s)\s*+[,;—–]|(?<!\s)\s++--)\s++(?=(?P<next>[\w$\\]))"
    r"|(?<!\s)\s++(?P<word>because|since|as|which|so|where|when|while|whereas|given|due)(?=\s++[\w$\\(\[*\"'])",
    re.IGNORECASE,
)
_NEXT = re.compile(r"[*_\"'“‘(\s]*+([^\W\d_]++|[$\\\d])?")
_WORD_BEFORE = re.compile(r"\S{1,24}\Z")
_EXPLAINS = listed(
    "because since as which so where when while whereas who given due based after once if meaning making giving "
    "leaving yielding resulting assuming considering hence thus therefore namely for bringing"
)
_CLAUSE = listed(
    "it its this that these those the there we he she they you i all both each every no none our any a an his her "
    "their required expected stated shown above in of to from $ \\"
)
_ALSO = listed("maybe perhaps possibly alternatively otherwise then else versus vs to even rather")
_SENTENCE = listed(  # words that begin a sentence after an abbreviation or an initial
    "the this that these those it its i we he she they you my our his her their so therefore thus hence hmm but "
    "however because since wait let note here there if when for an in on at as and now then no yes to by with what "
    "which actually first next finally please while since both each all hope "
    "explanation reason reasoning justification solution step proof"
)
_LOWER = listed("i it this that the we so thus hence therefore because hope please")  # the same, without their capital
_TITLES = listed(  # abbreviations that something must follow
    "mr mrs ms dr st ste mt ft prof rev gen col sgt capt lt cmdr gov sen rep hon pres fr vs e.g i.e cf dept univ "
    "messrs mme mlle adm maj"
)
_NUMBERED = listed("no nos vol fig eq approx ca pp ch sec")  # abbreviations before a number, else words
_ABBREVIATIONS = listed(
    "etc jr sr inc ltd co corp bros ave blvd rd sq cu oz lb lbs hr hrs min mi yd jan feb mar apr jun jul aug sep sept "
    "oct nov dec ph.d esq est"
)
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")  # p.m, U.S, e.g
_VALUE = re.compile(  # a number with its unit, or the letter of an option
    r"(?:about|approximately|around|roughly|exactly)?\s?[-+−]?\s?(?:US|AU|CA|HK|[AC])?\\?[$€£¥₹]?\s?[-−]?"
    r"(?:\d[\d,]*+(?:[.:]\d++)?|\.\d++)(?:\s?/\s?\d++)?\s?(?:\\?%|°)?"
    r"(?:[ /-]?(?!and\b|or\b)[^\W\d_][\w.°²³/^-]{0,24}(?:[ -](?!and\b|or\b)[^\W\d_][\w.°²³/^-]{0,24}){0,2})?"
    r"|[(\[]?[A-Z][)\]]?|[a-z]\s?=\s?[-−]?\d[\d,.]*+",
)
_LINE_END = re.compile(r"[*_\"'”’)\]\s]*+$")
_ARTICLE = re.compile(r"(?:the|an?)\s", re.IGNORECASE)
_LONGEST_VALUE = 80  # characters
_SHORT = 4  # letters of a word that may be an abbreviation nobody listed
_SEARCHED = 2000  # characters of a line that an answer's end is looked for in


def answer_end(line: str) -> tuple[int, bool]:
    """Where the answer that the line begins with ends, and whether what follows makes a question of it."""
    spans = together(line[: 2 * _SEARCHED])
    for match in outside(spans, _BREAK.finditer(line, 0, _SEARCHED)):
        start = match.start()
        if match["stop"] is not None:
            if "?" in match["stop"]:
                return start, True
            if _ends_sentence(line, match):
                return start, False
        elif not line[:start].strip("*_ "):
            continue
        elif match["mark"] is not None:
            if _ends_at_comma(line, match, spans):
                return start, False
        elif _explains(line, match, spans):
            return start, False
    return len(line), False


def _ends_sentence(line: str, match: re.Match[str]) -> bool:
    """Whether a full stop is the end of a sentence and no part of a name or number."""
    stop, following = match["stop"], _following(line, match.end())
    before = _WORD_BEFORE.search(line, max(0, match.start() - 24), match.start())
    word = before.group().lstrip("(*_\"'“‘") if before is not None else ""
    if _LINE_END.match(line, match.end()):
        return not (stop == "." and _DOTTED.fullmatch(word)) and stop != "!"
    if stop == "!":  # a factorial after a number
        return len(word) > 1 and word[-1].isalpha() and following[:1].isupper()
    if stop != ".":  # dots that leave something out
        return False
    if following.casefold() == "or" and _second(line, match.end()):  # a second guess
        return False
    if word[-1:].isdigit():
        return not following[:1].isdigit()
    name = word.casefold()
    if name in _TITLES or (name in _NUMBERED and following[:1].isdigit()):
        return False
    if name in _ABBREVIATIONS or _DOTTED.fullmatch(word) or (len(word) == 1 and word.isalpha()):
        return following[:1].isupper() and following.casefold() in _SENTENCE
    return len(word) > _SHORT or not following.islower() or following in _LOWER  # "5 in. by 3 in."


def _ends_at_comma(line: str, match: re.Match[str], spans: list[tuple[int, int]]) -> bool:
    """Whether what follows a comma, a semicolon or a dash is no part of the answer."""
    mark, word = match["mark"].strip(), _following(line, match.end())
    if not word.isalpha() or len(word) < 2:
        return False
    name, more = word.casefold(), _second(line, match.end())
    value = _is_value(line[: match.start()], spans)
    if value:
        if name == "or" or (name in _ALSO and (more[:1].isdigit() or more in ("$", "\\") or len(more) == 1)):
            return False  # a second guess
        return name != "and" or (more.casefold() in _CLAUSE - {"$", "\\", "a", "an"})
    if word[0].isupper() or mark not in (",", ";"):
        return False
    if name in _EXPLAINS:
        return bool(more)
    if mark == ";":
        return name in _CLAUSE
    before = line[: match.start()]
    return name in ("the", "a", "an") and _ARTICLE.match(before) is None and "," not in before


def _explains(line: str, match: re.Match[str], spans: list[tuple[int, int]]) -> bool:
    """Whether a word begins an explanation; one with a capital is part of a name unless all is in capitals."""
    word, before = match["word"], line[: match.start()]
    if not (word.islower() or (word.isupper() and before.isupper())):
        return False
    if word.lower() in ("because", "since"):
        return True
    following = _following(line, match.end()).casefold()
    if word.lower() in ("given", "due"):
        return following in ("that", "the", "to")
    old = word.lower() not in ("while", "whereas")
    return following in _CLAUSE or (old and _is_value(before, spans))


def _is_value(before: str, spans: list[tuple[int, int]]) -> bool:
    """Whether a text is all of an answer that has nothing to do with words: a number, an option, maths."""
    before = before.strip("*_ ")
    if spans and spans[0][0] <= 3 and before.startswith(("$", "\\(", "\\[")) and spans[0][1] >= len(before):
        return True
    return len(before) <= _LONGEST_VALUE and _VALUE.fullmatch(before) is not None


def _following(line: str, place: int) -> str:
    """The word at a place, or the character that begins something else."""
    match = _NEXT.match(line, place)
    return (match.group(1) or "") if match is not None else ""


def _second(line: str, place: int) -> str:
    match = _NEXT.match(line, place)
    return _following(line, match.end()) if match is not None else ""

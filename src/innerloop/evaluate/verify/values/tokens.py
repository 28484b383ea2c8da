r"""Tokens of an answer in LaTeX, in plain signs, or in a mixture of both.

One pass, linear in the text. Layout (``\left``, ``\,``, ``\displaystyle``) is dropped, different ways to write one sign
become one token (``\leq``, ``<=``, ``≤``), digits of all scripts and full-width characters become ASCII ones. The case
of letters is kept. A number with its separators is one token; what a comma means there is decided here:

- ``1,234``, ``1,23,456`` (Indian groups), ``10{,}000``, ``10,\!000``, ``1 000 000``, ``1'000'000`` are whole numbers.
  Between brackets, ``(1,234)``, a plain comma separates, unless a group begins with 0.
- ``1.234,5`` and ``3{,}14`` have a decimal comma; ``3,14`` are two numbers.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from innerloop.evaluate.verify.values.words import listed
from innerloop.text_forms import nfkc

NUMBER, LETTER, RUN, WORD, COMMAND, MARK = "number", "letter", "run", "word", "command", "mark"

_ABOVE = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
_BELOW = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]++")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋]++")
_VULGAR = re.compile("[¼½¾⅐-⅞↉]")
_DIGIT = re.compile(r"[^\W\d_]|(?![0-9])\d")
_AMOUNT = re.compile(r"\$(?:[^$\\]|\\.)*+\$", re.DOTALL)
_EMPHASIS = re.compile(r"(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?!\S)|__")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")

_SPACE = r"(?:[ \t\n\r\u2009\u202f\u00a0~]|\\[,;:! ])"
_GROUP_MARK = r"(?:,\\!|\{,\}(?:\\!)?|[,'’_]|\\,|[ ~\u2009\u202f\u00a0])"
_TOKEN = re.compile(
    rf"""(?P<space>(?:{_SPACE}|\\q?quad(?![A-Za-z]))++)
    |(?P<grouped>[1-9]\d{{0,2}}(?:{_GROUP_MARK}\d{{3}}(?!\d))++(?![,'’]\d)(?:\.\d++)?)
    |(?P<indian>[1-9]\d?(?:,\d{{2}}(?!\d))++,\d{{3}}(?!\d)(?:\.\d++)?)
    |(?P<continental>\d{{1,3}}(?:\.\d{{3}}(?!\d))++,\d++|[1-9]\d{{0,2}}(?:\.\d{{3}}(?!\d)){{2,}}+(?![.\d]))
    |(?P<comma>\d++\{{,\}}\d++|\d++,\d{{1,2}}(?=\s*+(?:€|\\euro|EUR)))
    |(?P<periodic>\d*+\.\d*+\(\d++\))
    |(?P<number>(?:\d++(?:\.\d++|\.(?=\s*+[/*^+)-])|\.(?=\\(?:overline|bar|dot)))?|\.\d++|\.(?=\\(?:overline|bar|dot)\b))(?:[eE][+-]?\d++(?![\w.]))?)
    |(?P<module>(?:np|numpy|math|sympy|sp)\.(?=[a-z]))
    |\\(?P<environment>(?:begin|end)\s*+\{{[A-Za-z]++\*?\}}(?:\[[a-z]++\]|\{{[lcr|]++\}})?)
    |\\(?:\\\s*+\[[-\d.]++[a-z]{{2}}\]|(?:h|v)space\*?\{{[^{{}}]*+\}})(?P<skip>)
    |\\(?P<command>[A-Za-z]++|[\\{{}}|%$&#_!,;: ]|.)
    |(?P<clock>[aApP]\.\s?[mM]\.|[aApP][mM](?![\w]))
    |(?P<letters>[^\W\d_]++(?:['’][^\W\d_]{{2,}})?)
    |(?P<mark>(?:<=>|<->|-->|->|=>|<==?|>=|!=|:=|==|\.{{3,}}|\*\*|''++)|.)
    """,
    re.VERBOSE | re.DOTALL,
)

GREEK = {
    **{unicodedata.name(chr(code)).split()[-1].lower(): chr(code) for code in range(0x3B1, 0x3CA) if code != 0x3C2},
    **{"lambda": "λ", "varepsilon": "ε", "varphi": "φ", "vartheta": "θ", "varrho": "ρ", "varpi": "π", "varsigma": "σ"},
}
GREEK |= {name.capitalize(): letter.upper() for name, letter in GREEK.items() if not name.startswith("var")}
_LETTERS = GREEK | {"hbar": "ℏ", "ell": "ℓ", "AA": "Å", "imath": "i", "jmath": "j"}
_SIGNS = {
    **dict.fromkeys(("times", "cdot", "ast", "bullet", "star"), "*"),
    **{"div": "/", "pm": "±", "mp": "∓", "lbrace": "{{", "rbrace": "}}", "{": "{{", "}": "}}"},
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), "≥"),
    **{"lt": "<", "gt": ">", "ne": "≠", "neq": "≠", "equiv": "≡", "in": "∈", "notin": "∉"},
    **dict.fromkeys(("approx", "approxeq", "simeq", "doteq", "thickapprox", "asymp"), "≈"),
    **{"sim": "∼", "cong": "≅", "propto": "∝", "parallel": "∥", "perp": "⊥", "mid": "|", "vert": "|", "lvert": "|"},
    **{"rvert": "|", "|": "‖", "Vert": "‖", "lVert": "‖", "rVert": "‖", "cup": "∪", "bigcup": "∪", "cap": "∩"},
    **{"setminus": "∖", "backslash": "∖", "infty": "∞", "langle": "⟨", "rangle": "⟩", "lbrack": "[", "rbrack": "]"},
    **dict.fromkeys(("emptyset", "varnothing"), "∅"),
    **dict.fromkeys(("ldots", "dots", "cdots", "dotsc", "dotsb", "vdots", "ddots"), "…"),
    **{"lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "subset": "⊂", "subseteq": "⊆"},
    **{"circ": "°", "degree": "°", "textdegree": "°", "prime": "'", "%": "%", "$": "$", "pounds": "£", "euro": "€"},
    **{"textdollar": "$", "texteuro": "€", "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨", "colon": ":", "&": "&"},
    **{"therefore": "→", "because": "→", "to": "→", "gets": "→", "iff": "→", "implies": "→", "impliedby": "→"},
    **{"mapsto": "→", "longmapsto": "→", "\\": "\\\\", "newline": "\\\\", "cr": "\\\\", "angle": "∠", "triangle": "△"},
    "not": "¬",
}
_ALIKE = {
    **{"×": "*", "·": "*", "⋅": "*", "∗": "*", "•": "*", "÷": "/", "∕": "/", "⁄": "/", "−": "-", "–": "-", "—": "-"},
    **{"<=": "≤", ">=": "≥", "!=": "≠", "==": "=", ":=": "=", "≦": "≤", "≧": "≥", "⩽": "≤", "⩾": "≥", "**": "^"},
    **{"≃": "≈", "≅": "≅", "≐": "≈", "∣": "|", "’": "'", "′": "'", "‘": "'", "`": "'", "，": ",", "、": ",", "；": ";"},
    **{"。": ".", "：": ":", "º": "°", "˚": "°", "⇒": "→", "⟹": "→", "⟶": "→", "↦": "→", "⇔": "→", "↔": "→", "⟺": "→"},
    **{"=>": "→", "->": "→", "-->": "→", "<->": "→", "<=>": "→", "∴": "→", "∵": "→", "←": "→", "⇐": "→", "<==": "→"},
    **{"〈": "⟨", "〉": "⟩", "…": "…", "∞": "∞", "∅": "∅", "Ø": "∅", "⌀": "∅", "∼": "∼", "~": "∼", "\\": "∖"},
}
_DROPPED = listed(
    """left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle
    scriptstyle limits nolimits rm bf it sf tt nobreak allowbreak small large Large normalsize centering hfill
    hline mathbf mathit mathsf mathcal mathscr boldsymbol bm mathstrut strut ( ) [ ] tag label # _ ! , ; :"""
)
_COUNTS = frozenset("十百千万萬亿億")  # factors that are written without a space before the unit
_UPRIGHT = listed(
    """text textbf textit textrm textsf texttt textnormal textup emph mathrm mathop mbox hbox mathtt underline"""
)
_BOXED = frozenset(("boxed", "fbox"))
_FUNCTION = re.compile(r"\s*+\{\s*+([A-Za-z]++)\s*+\}")


@dataclass(frozen=True, slots=True)
class Token:
    r"""A token. ``upright``: it stands within ``\text{}`` and its like; ``space``: white space precedes it."""

    kind: str
    text: str
    space: bool = False
    upright: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))

    def marks(self, *texts: str) -> bool:
        """Whether it is one of these marks."""
        return self.kind == MARK and self.text in texts


def tokenize(text: str) -> list[Token]:
    """The tokens of an answer."""
    return _degrees(_Tokenizer(_prepared(text)).run())


def _degrees(tokens: list[Token]) -> list[Token]:
    r"""``^\circ`` and ``^{\circ}`` as the sign that they are."""
    found: list[Token] = []
    for token in tokens:
        if token.marks("}") and [own.text for own in found[-3:]] == ["^", "{", "°"]:
            found[-3:] = [found[-1]]
        elif token.marks("°") and found and found[-1].marks("^"):
            found[-1] = token
        else:
            found.append(token)
    return found


def _prepared(text: str) -> str:
    """Without the dollars around formulas, with ASCII digits, exponents and fractions spelled out."""
    text = _EMPHASIS.sub(" ", _AMOUNT.sub(_without_dollars, text))
    if text.isascii():
        return text
    text = _SUPERSCRIPT.sub(lambda found: f"^{{{found[0].translate(_ABOVE)}}}", text)
    text = _SUBSCRIPT.sub(lambda found: f"_{{{found[0].translate(_BELOW)}}}", text)
    text = _VULGAR.sub(_fraction, text)
    return _DIGIT.sub(_ascii_digit, nfkc(text).replace("٫", ".").replace("٬", ","))


def _without_dollars(found: re.Match[str]) -> str:
    """A pair of dollars goes, unless words between them say that they are two amounts of money."""
    inner = found[0][1:-1]
    return found[0] if _PROSE.search(inner) and inner[:1].isdigit() else f" {inner} "


def _fraction(found: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", found[0]).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}" if bottom else found[0]


def _ascii_digit(found: re.Match[str]) -> str:
    return str(unicodedata.decimal(found[0], found[0]))


class _Tokenizer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[Token] = []
        self.space = False
        self.depth = 0  # of brackets, within which commas separate
        self.groups: list[bool] = []  # of braces, whether their braces are dropped, upright ones
        self.upright = 0

    def run(self) -> list[Token]:
        place = 0
        while place < len(self.text):
            match = _TOKEN.match(self.text, place)
            assert match is not None  # the last alternative takes any character
            kind = str(match.lastgroup)
            place = self._take(kind, match[kind], match.end())
        return self.found

    def _take(self, kind: str, text: str, end: int) -> int:
        """Adds what was matched; returns where to go on."""
        if kind == "space":
            self.space = True
        elif kind in ("grouped", "indian") and self.depth and not _surely_grouped(text):
            first = text[: text.index(",")]
            self._add(NUMBER, first)
            return end - len(text) + len(first)
        elif kind == "environment":
            way, _, name = text.partition("{")
            self._add(COMMAND, f"{way.strip()}:{name.partition('}')[0].rstrip('*')}")
        elif kind == "module":
            pass
        elif kind == "skip":
            if self.text[end - 1] == "]":  # a line break with its distance
                self._add(MARK, "\\\\")
        elif kind == "command":
            return self._command(text, end)
        elif kind == "letters":
            self._letters(text)
        elif kind == "clock":
            self._add(WORD, text.replace(".", "").replace(" ", "").lower())
        elif kind == "mark":
            self._mark(text)
        else:
            self._add(NUMBER, _plain_digits(kind, text))
        return end

    def _add(self, kind: str, text: str) -> None:
        self.found.append(Token(kind, text, self.space, bool(self.upright)))
        self.space = False

    def _mark(self, text: str) -> None:
        text = _ALIKE.get(text, text)
        if text == "{":
            self.groups.append(False)
        elif text == "}" and self.groups and self.groups.pop():
            self.upright -= 1
            self.space = True
            return
        if text.startswith("''"):
            for _ in text:
                self._add(MARK, "'")
            return
        self._add(MARK, "…" if text.startswith("...") else text)
        self._count(text)

    def _count(self, text: str) -> None:
        if text in ("(", "[", "{{", "⟨"):
            self.depth += 1
        elif text in (")", "]", "}}", "⟩"):
            self.depth = max(self.depth - 1, 0)

    def _letters(self, text: str) -> None:
        foreign = not text.isascii() and not all(letter in _GREEK_LETTERS or letter.isascii() for letter in text)
        if foreign and text[0] in _COUNTS and len(text) > 1:
            self._add(WORD, text[0])
            self._letters(text[1:])
        elif self.upright or foreign:
            self._add(WORD, text.replace("’", "'"))
        elif len(text) == 1:
            self._add(LETTER, text)
        elif any(letter in _GREEK_LETTERS for letter in text):
            for letter in text:
                self._add(LETTER, letter)
        else:
            self._add(RUN, text.replace("’", "'"))

    def _command(self, name: str, end: int) -> int:
        if name in _DROPPED:
            if name in ("left", "right") and self.text[end : end + 1] == ".":
                return end + 1
            return end
        if name in _UPRIGHT or name in _BOXED:
            return self._group(name, end)
        if name == "operatorname":
            match = _FUNCTION.match(self.text, end)
            if match is not None:
                self._add(RUN, match[1])
                return match.end()
        elif name in _LETTERS:
            self._add(LETTER, _LETTERS[name])
        elif name in _SIGNS or name.lower().endswith("arrow"):
            sign = _SIGNS.get(name, "→")
            self._add(MARK, sign)
            self._count(sign)
        else:
            self._add(COMMAND, {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac"}.get(name, name))
        return end

    def _group(self, name: str, end: int) -> int:
        r"""Goes into ``\text{}``, whose braces are dropped."""
        while self.text[end : end + 1].isspace():
            end += 1
        if self.text[end : end + 1] != "{":
            return end
        upright = name in _UPRIGHT
        self.groups.append(upright)
        if not upright:
            self._add(MARK, "{")
            return end + 1
        self.upright += 1
        self.space = True if not self.found else self.space
        return end + 1


_GREEK_LETTERS = frozenset(letter for letter in _LETTERS.values() if not letter.isascii())


def _surely_grouped(text: str) -> bool:
    """Whether a number between brackets has separators that cannot part two numbers."""
    return ",0" in text or "," not in text.replace("{,}", "").replace(",\\!", "")


def _plain_digits(kind: str, text: str) -> str:
    """A number's digits with a decimal point; ``0.(3)`` keeps its brackets."""
    if kind == "continental":
        return text.replace(".", "").replace(",", ".")
    if kind == "comma":
        whole, _, part = text.replace("{,}", ",").partition(",")
        return f"{whole}.{part}" if len(part) != 3 else whole + part
    if kind in ("grouped", "indian"):
        return "".join(character for character in text if character in "0123456789.")
    return text.lower()

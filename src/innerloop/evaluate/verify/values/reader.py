r"""Answers as typed values.

An answer is cut at commas, ``or``, arrows and line breaks outside of brackets, each part at its relation signs, each
side is read by what stands around it: braces, brackets, ``\cup``, a colon, words and units, or nothing but a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from innerloop.evaluate.verify.values import formula, names, quantity, statements, words
from innerloop.evaluate.verify.values.brackets import (
    CLOSING,
    OPENING,
    enclosed,
    is_balanced,
    split,
    stripped,
)
from innerloop.evaluate.verify.values.kinds import (
    Collection,
    Matrix,
    Option,
    Quantity,
    Ratio,
    Text,
    Tuple,
    Unread,
    Value,
)
from innerloop.evaluate.verify.values.regions import excluded, union
from innerloop.evaluate.verify.values.tokens import COMMAND, LETTER, MARK, NUMBER, RUN, WORD, Token, tokenize
from innerloop.evaluate.verify.values.tree import TooLarge, Unreadable, choose_sign, has_signs

_MOST_TOKENS = 4_000
_MATRICES = {"matrix": "", "pmatrix": "", "bmatrix": "", "Bmatrix": "{", "array": "", "smallmatrix": ""} | {
    "vmatrix": "|",
    "Vmatrix": "‖",
}
_LINES = frozenset(["cases", "aligned", "align", "gathered", "split"])
_HALVES = {"am": "am", "pm": "pm", "noon": "pm", "midnight": "am"}
_SEPARATORS = (",", ";", "→", "\\\\", "∧", "∨", "&", ".")
_AFTER_OPTION = frozenset(
    ("-", "(", "[", "{{", "$", "{", ":", ".")
)  # marks that what is said of an option may begin with
_LONGEST_NAME = 4  # letters of a name such as ABCD
_CRIES = frozenset(("yes", "no", "none", "true", "odd", "even", "both"))  # words that are written in capitals too
_LONGEST_WORDS = 3  # in each part of a list of words


@lru_cache(maxsize=8192)
def read(text: str, *, short: bool = False) -> Value:
    """The value of an answer; ``Unread`` where the reader does not know it.

    ``short`` takes a single letter after a number for a unit (``5 m``) instead of a factor.
    """
    tokens = tokenize(text)
    if len(tokens) > _MOST_TOKENS:
        return Unread(tuple(tokens), "too long")
    try:
        return _Reader(short).answer(tokens)
    except (Unreadable, TooLarge, ArithmeticError, RecursionError) as error:
        return Unread(tuple(tokens), str(error) or type(error).__name__)


class _Reader:
    def __init__(self, short: bool) -> None:
        self.short = short

    def answer(self, tokens: Sequence[Token]) -> Value:
        """A whole answer."""
        tokens = stripped(tokens)
        if not tokens:
            raise Unreadable("nothing")
        if (
            tokens[0].marks("{{")
            and len(tokens) > 1
            and tokens[1].text.startswith("begin:")
            and not is_balanced(tokens)
        ):
            tokens = tokens[1:]  # \left\{ \begin{array} … \right.
        option = self.option(tokens)
        if option is not None:
            return option
        if not is_balanced(tokens):
            raise Unreadable("brackets that do not match")
        if _is_prose(tokens):
            return _words(tokens)
        try:
            return self.whole(tokens)
        except Unreadable:
            return quantity.sentence(tokens)

    def option(self, tokens: Sequence[Token]) -> Value | None:
        """``(B)``, ``\\textbf{(B)}\\ 12``, ``B) 12``: a capital letter, and no formula that goes on with it."""
        start = int(tokens[0].marks("("))
        if len(tokens) < start + 2 or not tokens[start + 1].marks(")"):
            return None
        letter, rest = tokens[start], tokens[start + 2 :]
        if letter.kind not in (LETTER, WORD) or len(letter.text) != 1 or not "A" <= letter.text <= "J":
            return None
        if not rest:
            return Option(letter.text, None)
        sign = rest[0].kind == MARK and rest[0].text not in _AFTER_OPTION
        if sign or not (rest[0].space or letter.upright or rest[0].marks(":")):
            return None
        try:
            return Option(letter.text, self.answer(rest))
        except Unreadable:
            return Option(letter.text, Unread(tuple(rest), "no value"))

    def whole(self, tokens: Sequence[Token]) -> Value:
        """Without options and sentences."""
        if (inner := enclosed(tokens, "{", "}")) is not None:
            return self.answer(inner)
        if tokens[0].kind == COMMAND and tokens[0].text.startswith("begin:"):
            table = tokens[0].text == "begin:array" and any(_relates(tokens, place) for place in range(len(tokens)))
            if table or tokens[0].text.partition(":")[2] in _LINES:
                return self.lines(tokens)
        parts = self.parts(tokens)
        if len(parts) > 1:
            try:
                return quantity.read(tokens, short=self.short)  # "3 dollars and 20 cents", "no more than 3"
            except Unreadable:
                pass
            return statements.combined([(mark, self.part(part)) for mark, part in parts])
        return self.statement(tokens)

    def part(self, tokens: Sequence[Token]) -> Value:
        """One part of several."""
        tokens = stripped(tokens)
        if len(tokens) == 1 and tokens[0].marks("…"):
            return statements.DOTS
        if _is_prose(tokens):
            return _words(tokens)
        return self.statement(tokens)

    def parts(self, tokens: Sequence[Token]) -> list[tuple[str, Sequence[Token]]]:
        """The parts of a list, each with what stands before it."""
        found: list[tuple[str, Sequence[Token]]] = []
        for mark, part in split(tokens, _separates):
            if stripped(part):
                word = mark.text.lower() if mark is not None else ""
                found.append((word, part))
        return found

    def lines(self, tokens: Sequence[Token]) -> Value:
        """``\\begin{cases} … \\\\ … \\end{cases}``."""
        name = tokens[0].text.partition(":")[2]
        if tokens[-1].text != f"end:{name}":
            raise Unreadable("more than an environment")
        inner = [token for token in tokens[1:-1] if not token.marks("&")]
        rows = [row for _, row in split(inner, lambda token, _: token.marks("\\\\", ",")) if stripped(row)]
        return statements.combined([("and", self.part(row)) for row in rows])

    # One statement

    def statement(self, tokens: Sequence[Token]) -> Value:
        """A relation, or a value."""
        tokens = stripped(tokens)
        sides, signs = _sides(tokens)
        if not signs:
            return self.value(stripped(sides[0]))
        read = [self.side(side, place) for place, side in enumerate(sides)]
        return statements.chain(read, signs)

    def side(self, tokens: Sequence[Token], place: int) -> Value:
        """A side of a relation; on the left, what cannot be read is a name for what is sought."""
        try:
            return self.value(stripped(tokens))
        except (Unreadable, TooLarge):
            if place or not tokens:
                raise
        heavy = any(token.kind == COMMAND and token.text in names.HEAVY for token in tokens)
        named = any(token.kind in (RUN, WORD, LETTER) for token in tokens)
        if not (heavy or named):
            raise Unreadable("an equation that cannot be read")
        return Unread(tuple(tokens), "heavy" if heavy else "name")

    def value(self, tokens: Sequence[Token]) -> Value:
        """What stands on one side of a relation, or alone."""
        if not tokens:
            raise Unreadable("nothing")
        unions = [part for _, part in split(tokens, lambda token, _: token.marks("∪"))]
        if len(unions) > 1:
            return union([self.value(stripped(part)) for part in unions])
        without = [part for _, part in split(tokens, lambda token, _: token.marks("∖"))]
        if len(without) == 2:
            return excluded(self.value(stripped(without[0])), self.value(stripped(without[1])))
        if tokens[0].kind == COMMAND and tokens[0].text.startswith("begin:"):
            return self.matrix(tokens)
        if len(tokens) == 1 and tokens[0].marks("∅"):
            return Collection((), braces=True)
        if (inner := enclosed(tokens, "{{", "}}")) is not None:
            return self.set(inner)
        if tokens[0].kind == MARK and tokens[0].text in OPENING:
            found = self.sequence(tokens)
            if found is not None:
                return found
        if tokens[0].kind == LETTER and tokens[0].text.isupper() and len(tokens) > 4 and tokens[1].marks("("):
            point = self.sequence(tokens[1:])  # "P(2, 3)"
            if point is not None and tokens[0].text not in "FGH":
                return point
        ratio = self.ratio(tokens)
        if ratio is not None:
            return ratio
        found = quantity.read(tokens, short=self.short)
        if isinstance(found, Quantity) and has_signs(found.node):
            return _both(found)
        return found

    def set(self, tokens: Sequence[Token]) -> Value:
        """What braces hold: values, or a condition after a bar."""
        conditions = [part for _, part in split(tokens, lambda token, _: token.marks("|", ":"))]
        if (
            len(conditions) == 2
            and stripped(conditions[1])
            and any(_relates(conditions[1], i) for i in range(len(conditions[1])))
        ):
            return self.whole(stripped(conditions[1]))
        parts = [stripped(part) for _, part in split(tokens, lambda token, _: token.marks(",", ";"))]
        items = tuple(self.part(part) for part in parts if part)
        if statements.DOTS in items:
            return Tuple(items, "…", "")
        flat = [own for item in items for own in (_pair(item) or (item,))]
        return Collection(tuple(flat), braces=True)

    def sequence(self, tokens: Sequence[Token]) -> Value | None:
        """Several values between brackets."""
        opening, closing = tokens[0].text, tokens[-1].text
        inner = enclosed(tokens, opening, closing) if closing in CLOSING else None
        if inner is None:
            return None
        parts = [part for _, part in split(inner, lambda token, _: token.marks(",", ";"))]
        if len(parts) < 2 and opening != "⟨":
            signs = _sides(inner)[1]
            return self.statement(inner) if signs else None
        items = [self.part(part) for part in parts]
        if not any(map(_pair, items)):
            return Tuple(tuple(items), opening, closing)
        both = [tuple((_pair(item) or (item, item))[way] for item in items) for way in (0, 1)]
        return Collection(tuple(Tuple(own, opening, closing) for own in both))

    def ratio(self, tokens: Sequence[Token]) -> Value | None:
        """``2:1``, ``4:30 p.m.``"""
        half = ""
        last = tokens[-1].text.lower()
        if tokens[-1].kind in (WORD, RUN) and last in _HALVES:
            half, tokens = _HALVES[last], tokens[:-1]
        parts = [part for _, part in split(tokens, lambda token, _: token.marks(":"))]
        if half and len(parts) == 1:
            if len(parts[0]) != 1 or not parts[0][0].text.isdigit():
                return None
            node = formula.parse(parts[0])
            return Ratio((node, statements.ZERO), half, (parts[0][0].text, "00"))
        if not 2 <= len(parts) <= 4 or not all(parts):
            return None
        if _is_prose(parts[0]):  # "answer: 42"
            return self.value(stripped(tokens[len(parts[0]) + 1 :]))
        written = tuple(part[0].text if len(part) == 1 and part[0].text.isdigit() else "" for part in parts)
        return Ratio(tuple(formula.parse(part) for part in parts), half, written)

    def matrix(self, tokens: Sequence[Token]) -> Value:
        name = tokens[0].text.partition(":")[2]
        if tokens[-1].text != f"end:{name}" or name not in _MATRICES:
            raise Unreadable("no matrix")
        rows = [row for _, row in split(tokens[1:-1], lambda token, _: token.marks("\\\\")) if row]
        read = tuple(
            tuple(self.value(stripped(cell)) for _, cell in split(row, lambda token, _: token.marks("&")))
            for row in rows
        )
        if len({len(row) for row in read}) != 1:
            raise Unreadable("rows of different lengths")
        return Matrix(read, _MATRICES[name])


def _both(found: Quantity) -> Collection:
    """The two values of ±."""
    return Collection(tuple(Quantity(choose_sign(found.node, sign), found.unit, found.percent) for sign in (1, -1)))


def _pair(item: Value) -> tuple[Value, ...]:
    """The two values that ± gave."""
    return item.items if isinstance(item, Collection) and not item.braces and len(item.items) == 2 else ()


def _separates(token: Token, _: int) -> bool:
    if token.kind == MARK:
        return token.text in _SEPARATORS
    return token.kind in (RUN, WORD) and token.text.lower() in words.CONNECTIVES


_RELATIONS = frozenset(["=", "<", ">", "≤", "≥", "≠", "≈", "∈", "∉", "≡", "∼", "≅", "∝", "∥", "⊥", "⊂", "⊆"])


def _relates(tokens: Sequence[Token], place: int) -> bool:
    return tokens[place].kind == MARK and tokens[place].text in _RELATIONS


def _sides(tokens: Sequence[Token]) -> tuple[list[Sequence[Token]], list[str]]:
    """What stands between the relation signs, and these."""
    sides: list[Sequence[Token]] = []
    signs: list[str] = []
    for mark, part in split(tokens, lambda token, _: token.kind == MARK and token.text in _RELATIONS):
        if mark is not None:
            signs.append(mark.text)
        sides.append(part)
    if signs and not stripped(sides[0]) and signs[0] in ("=", "≈"):
        return sides[1:], signs[1:]  # "= 5"
    for place, side in enumerate(sides[:-1]):
        if side and side[-1].marks("¬"):  # "\not=", "x ! = 3"
            sides[place] = side[:-1]
            signs[place] = {"=": "≠", "∈": "∉"}.get(signs[place], "?")
    return sides, signs


def _is_prose(tokens: Sequence[Token]) -> bool:
    """Whether there are words, and nothing that is counted or computed."""
    named = False
    for token in tokens:
        if token.kind in (NUMBER, COMMAND) or (token.kind == MARK and token.text not in ",.;-'{}():…!?/"):
            return False
        if token.kind == WORD and (len(token.text) > 1 or not token.text.isascii()):
            named = named or token.text not in names.FUNCTIONS
        elif token.kind == RUN:
            text = token.text
            known = text in names.FUNCTIONS or text in names.CONSTANTS
            named = named or (not known and len(text) > 2 and names.VOWEL.search(text) is not None)
    return named


def _words(tokens: Sequence[Token]) -> Value:
    """Words; several of them between commas are a list, the order of which is free."""
    parts = [stripped(part) for _, part in split(tokens, lambda token, _: token.marks(",", ";"))]
    texts = [Text(_spelled(part)) for part in parts if part]
    if len(texts) > 1 and all(len(part) <= _LONGEST_WORDS for part in parts):
        return Collection(tuple(texts))
    return Text(_spelled(tokens))


def _spelled(tokens: Sequence[Token]) -> str:
    """Words without their case, which names such as ``ABC`` keep."""
    kept = [token for token in tokens if token.kind != MARK or token.text in "-'"]
    return " ".join(token.text if _is_name(token) else token.text.casefold() for token in kept)


def _is_name(token: Token) -> bool:
    short = token.kind == RUN and len(token.text) <= _LONGEST_NAME and token.text.isupper()
    return short and token.text.lower() not in _CRIES

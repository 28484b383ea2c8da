"""Numbers with what stands around them: signs in words, currencies, units, percent, mixed units, sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from innerloop.evaluate.verify.values import formula, names, units, words
from innerloop.evaluate.verify.values.kinds import Quantity, Relation, Text, Value
from innerloop.evaluate.verify.values.tokens import COMMAND, LETTER, MARK, NUMBER, RUN, WORD, Token
from innerloop.evaluate.verify.values.tree import Node, Number, Operation, Symbol, Unreadable, negative

_BOUNDS = (
    (("less", "than"), "<"),
    (("fewer", "than"), "<"),
    (("smaller", "than"), "<"),
    (("lower", "than"), "<"),
    (("under",), "<"),
    (("below",), "<"),
    (("more", "than"), ">"),
    (("greater", "than"), ">"),
    (("larger", "than"), ">"),
    (("over",), ">"),
    (("above",), ">"),
    (("at", "least"), "≥"),
    (("no", "less", "than"), "≥"),
    (("no", "fewer", "than"), "≥"),
    (("at", "most"), "≤"),
    (("up", "to"), "≤"),
    (("no", "more", "than"), "≤"),
)
_AFTER = (
    (("or", "more"), "≥"),
    (("or", "less"), "≤"),
    (("or", "fewer"), "≤"),
    (("at", "least"), "≥"),
    (("at", "most"), "≤"),
)
_NEGATIVE = frozenset(("negative", "minus"))
_MOST_SEGMENTS = 4
_SMALL_WORDS = words.listed(
    """is in of it he we so an as at be by do if my no on or to up us go are was were has had"""
)
_ATTACHED = words.listed("cm km kg bn mm")  # units of two letters that need no space before them
_NEAR = 3  # words before a number that may change it
_SIXTIETHS = (
    (re.compile(r"0°0(?:'|'0\"?|'0'')?"), (1, 60, 3600), units.Unit((("angle", 1),))),
    (re.compile(r"0'0(?:\"|'')?"), (1, 12), units.parse([Token(WORD, "ft")]).unit),
)
ANY = Symbol("")  # the left side of a bound: whatever was asked for


def read(tokens: Sequence[Token], *, short: bool = False) -> Value:
    """A formula with what stands around it; ``short`` takes single letters after a number for units."""
    bound = _bound(tokens, short=short)
    if bound is not None:
        return bound
    sign, currency, start = _front(tokens)
    tokens = tokens[start:]
    if not tokens:
        raise Unreadable("no number")
    found = _sixtieths(tokens) or _segments(tokens, currency, short=short)
    return Quantity(negative(found.node), found.unit, found.percent, mixed=found.mixed) if sign < 0 else found


def _bound(tokens: Sequence[Token], *, short: bool) -> Value | None:
    """``at least 8``, ``8 or more``."""
    spoken = [token.text.lower() for token in tokens[:5]]
    start = 0
    while start < len(spoken) and spoken[start] in words.FILLERS:
        start += 1
    for phrase, sign in _BOUNDS:
        if tuple(spoken[start : start + len(phrase)]) == phrase:
            return _compared(sign, read(tokens[start + len(phrase) :], short=short))
    last = [token.text.lower() for token in tokens[-2:]]
    for phrase, sign in _AFTER:
        if tuple(last) == phrase:
            return _compared(sign, read(tokens[:-2], short=short))
    return None


def _compared(sign: str, value: Value) -> Relation:
    """With the larger side on the right."""
    left: Value = Quantity(ANY)
    return Relation(value, {">": "<", "≥": "≤"}[sign], left) if sign in (">", "≥") else Relation(left, sign, value)


def _front(tokens: Sequence[Token]) -> tuple[int, units.Unit | None, int]:
    """Sign and currency in front of a number, and where the number begins."""
    sign, currency, place = 1, None, 0
    while place < len(tokens):
        token = tokens[place]
        word = token.text.lower()
        wordlike = token.kind in (RUN, WORD) or (token.kind == LETTER and token.upright)
        if wordlike and word in _NEGATIVE:
            sign = -sign
        elif (token.kind == MARK or wordlike) and word in units.CURRENCY:
            currency = currency if word == "us" else units.parse([token]).unit
        elif (wordlike and word in words.FILLERS) or token.marks("≈", "∼"):
            pass
        elif token.marks("-", "+") and place + 1 < len(tokens) and tokens[place + 1].text.lower() in units.CURRENCY:
            sign = -sign if token.text == "-" else sign
        else:
            break
        place += 1
    return sign, currency, place


def _sixtieths(tokens: Sequence[Token]) -> Quantity | None:
    """Degrees with minutes and seconds (``30° 15'``), feet with inches (``5' 6"``)."""
    numbers = [token for token in tokens if token.kind == NUMBER]
    signs = "".join(token.text if token.kind == MARK else "0" if token.kind == NUMBER else "?" for token in tokens)
    for pattern, sizes, unit in _SIXTIETHS:
        if pattern.fullmatch(signs):
            values = (formula.parse([token]) for token in numbers)
            total = sum(
                (own.value / size for own, size in zip(values, sizes, strict=False) if isinstance(own, Number)),
                Fraction(0),
            )
            return Quantity(Number(total), unit, mixed=True)
    return None


def _segments(tokens: Sequence[Token], currency: units.Unit | None, *, short: bool) -> Quantity:
    """A number with its unit, or several of one kind that add up: ``5 ft 6 in``."""
    found: list[tuple[Node, units.Tail]] = []
    while tokens and len(found) < _MOST_SEGMENTS:
        end, last = _extent(tokens, short=short)
        node = formula.parse(tokens[:end])
        if not found and last == len(tokens) == end and currency is None:
            return _measured(node)
        found.append((node, units.parse(tokens[end:last])))
        tokens = tokens[last:]
        while tokens and (tokens[0].text.lower() == "and" or tokens[0].marks(",")):
            tokens = tokens[1:]
    if tokens:
        raise Unreadable("more than a number and its unit")
    if len(found) > 1:
        return _mixed(found)
    node, tail = found[0]
    unit = tail.unit or currency
    if currency is not None and tail.unit is not None and tail.unit.known:
        unit = tail.unit if tail.unit.dimensions != currency.dimensions else currency
    node = _times(negative(node) if tail.negative else node, tail.factor)
    return Quantity(node, unit, tail.percent)


def _measured(node: Node) -> Quantity:
    """An angle's degrees are its unit, where they are the formula's last operation."""
    if isinstance(node, Operation) and node.name == "deg":
        return Quantity(node.arguments[0], _DEGREE)
    if isinstance(node, Operation) and node.name == "neg":
        inner = _measured(node.arguments[0])
        return Quantity(negative(inner.node), inner.unit) if inner.unit is not None else Quantity(node)
    return Quantity(node)


_DEGREE = units.Unit((("angle", 1),))


def _times(node: Node, factor: Fraction) -> Node:
    if factor == 1:
        return node
    if isinstance(node, Number) and not node.base:
        return Number(node.value * factor)
    return Operation("*", (node, Number(factor)))


def _extent(tokens: Sequence[Token], *, short: bool) -> tuple[int, int]:
    """Where the formula ends that the tokens begin with, and where the words after it do."""
    depth, end = 0, len(tokens)
    for place, token in enumerate(tokens):
        depth += token.marks("(", "[", "{", "{{") - token.marks(")", "]", "}", "}}")
        if place and not depth and _begins_unit(tokens, place, short=short):
            end = place
            break
    last = end
    while last < len(tokens):
        token = tokens[last]
        exponent = token.kind == NUMBER and tokens[last - 1].marks("^", "-", "{")
        if (token.kind == NUMBER and not exponent) or token.kind == COMMAND or token.marks("+", "=", "√"):
            break
        if token.text.lower() == "and" and last + 1 < len(tokens) and tokens[last + 1].kind == NUMBER:
            break
        last += 1
    return end, last


def _begins_unit(tokens: Sequence[Token], place: int, *, short: bool) -> bool:
    token, before = tokens[place], tokens[place - 1]
    if before.marks("^", "_", "+", "-", "*", "/", "±", "√") or before.kind == COMMAND:
        return False
    if token.kind == WORD:
        return token.text not in names.FUNCTIONS and token.text not in names.MODULO and token.text != "choose"
    if token.kind == RUN:
        return _is_unit_run(token, short=short)
    if token.kind == LETTER:
        return short and before.kind in (NUMBER, MARK) and before.text != "(" and _is_unit_letter(tokens, place)
    if token.marks("%", *units.SIGNS):
        return all(own.kind in (WORD, RUN) or own.marks(".", "%") for own in tokens[place + 1 :])
    if token.marks("°"):
        return place + 2 == len(tokens) and tokens[place + 1].text in ("C", "F")
    return False


def _is_unit_run(token: Token, *, short: bool) -> bool:
    """Whether letters in a row are a unit or another word, and no product."""
    text = token.text
    if text in names.MODULO or text == "choose":
        return False
    if (short and text in units.ABBREVIATIONS) or (text.lower() in _SMALL_WORDS and token.space):
        return True
    if units.is_known(text):
        return len(text) > 2 or token.space or short or text.lower() in _ATTACHED
    function = text in names.FUNCTIONS or text in names.CONSTANTS
    return len(text) > 2 and not function and token.space and names.VOWEL.search(text) is not None


def _is_unit_letter(tokens: Sequence[Token], place: int) -> bool:
    """Whether a single letter is a unit, or the prefix of one, and all that follows may belong to it."""
    token, after = tokens[place], tokens[place + 1 : place + 2]
    if token.text in units.PREFIXES and after and after[0].text in units.LETTERS:
        return True
    follows = not after or after[0].marks("/", "^", ".", "*") or after[0].kind == LETTER
    return token.text in units.LETTERS and follows


def _mixed(found: Sequence[tuple[Node, units.Tail]]) -> Quantity:
    """The sum, in the first unit."""
    first = found[0][1].unit
    if first is None or not first.known:
        raise Unreadable("numbers without units that can be added")
    total = Fraction(0)
    for node, tail in found:
        unit = tail.unit
        if unit is None or not unit.known or unit.dimensions != first.dimensions or not isinstance(node, Number):
            raise Unreadable("numbers of different kinds")
        total += node.value * tail.factor * unit.size / first.size
    return Quantity(Number(total), first, mixed=True)


def sentence(tokens: Sequence[Token]) -> Value:
    """A sentence that was given as the answer: its only number, unless words make another one of it; else its words."""
    numbers = [place for place, token in enumerate(tokens) if token.kind == NUMBER]
    wordlike = [token for token in tokens if token.kind in (RUN, WORD)]
    sums = any(token.marks(*"=^+*<>≤≥≠≈√→±") or token.kind == COMMAND for token in tokens)
    text = Text(" ".join(token.text.casefold() for token in tokens if not token.marks(",", ".", "*", "{", "}")))
    if not numbers or sums or len(wordlike) < 2:
        if not wordlike or sums:
            raise Unreadable("neither words nor a formula")
        return text
    first, last = numbers[0], numbers[-1]
    between = tokens[first : last + 1]
    if len(numbers) > 1 and not (len(numbers) == 2 and last == first + 2 and between[1].marks("/")):
        return text
    before, after = tokens[:first], tokens[last + 1 :]
    if _changed_before(before) or any(map(_changed_after, after)):
        return text
    if (after and after[0].marks("!", "_", ":", "'")) or any(token.marks("-") for token in before[:-1]):
        return text
    sign = -1 if before and before[-1].marks("-") else 1
    money = [token for token in before if token.marks(*units.SIGNS)]
    node = formula.parse(between)
    percent = bool(after) and after[0].text.lower() in ("%", "percent")
    unit = units.parse(money[:1]).unit if money else None
    if not money and after and units.is_unit(after[0].text):
        unit = units.parse(after[:1]).unit
    return Quantity(negative(node) if sign < 0 else node, unit, percent)


def _changed_before(tokens: Sequence[Token]) -> bool:
    spoken = [token.text.lower() for token in tokens if token.kind in (RUN, WORD)]
    if any(word in words.REFUSING or word.endswith("n't") for word in spoken):
        return True
    return any(word in words.CHANGING for word in spoken[-_NEAR:]) or any(word in words.JOINING for word in spoken[-1:])


def _changed_after(token: Token) -> bool:
    word = token.text.lower()
    changes = word in words.CHANGING - words.COUNTING or word in ("not", "never", "wrong", "incorrect")
    return token.kind in (RUN, WORD) and (changes or word.endswith("n't"))

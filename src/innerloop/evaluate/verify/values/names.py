"""Names of functions and constants, and runs of letters taken apart into them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from innerloop.evaluate.verify.values.tokens import GREEK, LETTER, RUN, WORD, Token
from innerloop.evaluate.verify.values.tree import Unreadable
from innerloop.evaluate.verify.values.words import CONNECTIVES

ROUND = ("sin", "cos", "tan", "cot", "sec", "csc")
NAMED = {
    **{name: name for name in ROUND},
    **{f"arc{name}": f"arc{name}" for name in ROUND},
    **{f"a{name}": f"arc{name}" for name in ROUND},
    **{f"{name}h": f"{name}h" for name in ROUND},
    **{"tg": "tan", "ctg": "cot", "cosec": "csc", "ln": "ln", "log": "log", "lg": "log", "exp": "exp", "abs": "abs"},
    **{"sqrt": "sqrt", "sgn": "sgn", "sign": "sgn", "floor": "floor", "ceil": "ceil", "gcd": "gcd", "lcm": "lcm"},
    **{"min": "min", "max": "max", "det": "call:det", "deg": "call:deg", "dim": "call:dim", "Re": "call:Re"},
    **{"Im": "call:Im", "arg": "call:arg", "Pr": "call:Pr", "tr": "call:tr", "var": "call:var"},
}
FUNCTIONS = frozenset(NAMED)
CONSTANT_OF = {"pi": "π", "Pi": "π", "PI": "π", "infinity": "∞", "inf": "∞", "oo": "∞", "infty": "∞"}
CONSTANTS = frozenset(CONSTANT_OF)
LETTER_CONSTANTS = {"π": "π", "e": "e", "i": "i"}
CALLED = frozenset("fghFGH")
MODULO = frozenset(("mod", "bmod", "pmod"))
_DERIVATIVE = re.compile(r"d[A-Za-z]/d[A-Za-z]")
VOWEL = re.compile("[aeiouy]", re.IGNORECASE)
HEAVY = frozenset(["int", "iint", "iiint", "oint", "lim", "limsup", "liminf"])


def expanded(tokens: Sequence[Token]) -> list[Token]:
    """With runs of letters taken apart into functions, constants and single letters."""
    found: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.kind == WORD:
            known = token.text in FUNCTIONS or token.text in MODULO
            found.append(Token(RUN if known else LETTER, token.text, token.space))
        elif token.kind != RUN:
            found.append(token)
        elif _DERIVATIVE.fullmatch(derivative := "".join(own.text for own in tokens[place : place + 3])):
            found.append(Token(LETTER, derivative, token.space))
            place += 2
        else:
            found += _taken_apart(token)
        place += 1
    return found


def _taken_apart(token: Token) -> list[Token]:
    text = token.text
    if text in FUNCTIONS or text in CONSTANTS or text in MODULO or text == "choose":
        return [token]
    if text.lower() in CONNECTIVES:
        raise Unreadable("several statements")
    if text in GREEK:
        return [Token(LETTER, GREEK[text], token.space)]
    if text[:-1] in FUNCTIONS:
        return [Token(RUN, text[:-1], token.space), Token(LETTER, text[-1])]
    if text[:2] == "pi" and len(text) == 3:
        return [Token(RUN, "pi", token.space), Token(LETTER, text[2])]
    if len(text) > 3 and VOWEL.search(text):
        return [Token(LETTER, text, token.space)]
    return [Token(LETTER, letter, token.space and not place) for place, letter in enumerate(text)]


def is_word(token: Token) -> bool:
    """Whether a token is a name of several letters, which nobody writes beside other factors."""
    return token.kind == LETTER and len(token.text) > 1 and token.text.isalpha()


def flat(tokens: Sequence[Token]) -> str:
    """The tokens as one name."""
    return "".join(token.text for token in tokens if not token.marks("{", "}", ","))

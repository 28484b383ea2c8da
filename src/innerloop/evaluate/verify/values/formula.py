r"""Formulas: tokens → tree, by recursive descent.

Operators bind as usual; a product without a sign binds as one with a sign, so that ``1/2x`` is half of x. Letters next
to each other are a product (``xy``), names of four letters and more are one symbol. ``2\frac13`` and ``2 1/3`` are
mixed numbers. A letter before a bracket is a factor, but for f, g, h and letters with primes, which are functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from innerloop.evaluate.verify.values import numerals
from innerloop.evaluate.verify.values.cursor import Cursor
from innerloop.evaluate.verify.values.names import (
    CALLED,
    CONSTANT_OF,
    FUNCTIONS,
    LETTER_CONSTANTS,
    MODULO,
    NAMED,
    ROUND,
    expanded,
    flat,
    is_word,
)
from innerloop.evaluate.verify.values.tokens import COMMAND, LETTER, MARK, NUMBER, RUN, Token
from innerloop.evaluate.verify.values.tree import (
    Constant,
    Node,
    Number,
    Operation,
    Symbol,
    Unreadable,
    bound_to,
    negative,
    quotient,
    whole,
)
from innerloop.evaluate.verify.values.words import listed

_MOST_MARKS = 6  # exponents, factorials and the like after one another
_DECORATIONS = listed("dot ddot vec hat bar overline tilde widehat widetilde overrightarrow mathbb mathfrak")
_OPEN = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉"}


def parse(tokens: Sequence[Token]) -> Node:
    """The tree of a formula. Raises ``Unreadable`` where the tokens are none."""
    parser = _Parser(expanded(tokens))
    node = parser.sum()
    if parser.at != len(parser.tokens):
        raise Unreadable("more than a formula")
    return node


class _Parser(Cursor):
    # Sums and products

    def sum(self) -> Node:
        terms: list[Node] = []
        node: Node | None = None
        while True:
            sign = ""
            while self.marks("+", "-", "±", "∓"):
                own = self.take().text
                sign = own if not sign else {"+-": "-", "-+": "-", "--": "+", "++": "+"}.get(sign + own, "?")
            if sign == "?" or (node is not None and not sign):
                break
            term = self.product()
            if sign in ("±", "∓"):
                term = Operation(sign, (Operation("+", tuple(terms)), term) if terms else (term,))
                terms = []
            node = negative(term) if sign == "-" else term
            terms.append(node)
            if not self.marks("+", "-", "±", "∓"):
                break
        if sign == "?":
            raise Unreadable("signs")
        return terms[0] if len(terms) == 1 else Operation("+", tuple(terms))

    def product(self) -> Node:
        factors, divisors = [self.factor()], []
        while True:
            if self.skip("*"):
                factors.append(self.signed())
            elif self.skip("/"):
                divisors.append(self.signed())
            elif self.marks("(") and (word := self.peek(1)) is not None and word.text in MODULO:
                self.at += 2
                node: Node = Operation("mod", (quotient(factors, divisors), self.signed()))
                self.expect(")")
                return node
            elif self.follows():
                if is_word(self.tokens[self.at - 1]) or is_word(self.tokens[self.at]):
                    raise Unreadable("words")
                factors.append(self.factor())
            elif (word := self.peek()) is not None and word.kind in (RUN, COMMAND) and word.text in MODULO:
                self.at += 1
                return Operation("mod", (quotient(factors, divisors), self.signed()))
            else:
                return quotient(factors, divisors)

    def signed(self) -> Node:
        if self.skip("-"):
            return negative(self.factor())
        self.skip("+")
        return self.factor()

    def follows(self) -> bool:
        """Whether a factor follows without a sign."""
        token, before = self.peek(), self.tokens[self.at - 1]
        if token is None:
            return False
        if token.kind == NUMBER:
            return before.kind not in (NUMBER,) and not before.marks("%")
        if token.kind == MARK:
            return token.text in ("(", "[", "{", "⌊", "⌈", "√", "∞", "∠", "△") or (token.text == "|" and not self.bars)
        if token.kind == COMMAND:
            return token.text in _BASES or token.text in FUNCTIONS or token.text in _DECORATIONS
        return token.text not in MODULO

    # Factors

    def factor(self) -> Node:
        return self.powers(self.base())

    def base(self) -> Node:
        return self.deeper(self.atom)

    def powers(self, node: Node) -> Node:
        for _ in range(_MOST_MARKS):
            token = self.peek()
            if token is None or token.kind != MARK:
                return node
            if token.text == "^":
                self.at += 1
                node = self.exponent(node)
            elif token.text == "!":
                self.at += 1
                node = Operation("!!" if self.skip("!") else "!", (node,))
            elif token.text == "°":
                self.at += 1
                node = Operation("deg", (node,))
            elif token.text == "%":
                self.at += 1
                node = Operation("/", (node, whole(100)))
            elif token.text == "_" and isinstance(node, Number):
                self.at += 1
                node = numerals.in_base(node, self.subscript())
            else:
                return node
        raise Unreadable("too many marks")

    def exponent(self, base: Node) -> Node:
        if self.marks("'"):
            raise Unreadable("a prime")
        power = self.argument(whole_number=True)
        if self.skip("^"):
            power = self.deeper(lambda: self.exponent(power))
        return Operation("^", (base, power))

    def argument(self, *, whole_number: bool = False) -> Node:
        """A group, or the next token; of a number without braces its first digit, or all where ``whole_number``."""
        if self.skip("-"):
            return negative(self.deeper(lambda: self.argument(whole_number=whole_number)))
        token = self.peek()
        if token is not None and token.kind == NUMBER and not whole_number and len(token.text) > 1:
            self.tokens[self.at] = Token(NUMBER, token.text[1:])
            return numerals.read(token.text[0])
        return self.base()

    def atom(self) -> Node:
        token = self.take()
        if token.kind == NUMBER:
            return self.number(token)
        if token.kind == LETTER:
            return self.symbol(token.text)
        if token.kind == COMMAND:
            return self.command(token.text)
        if token.kind == RUN:
            if token.text in CONSTANT_OF:
                return Constant(CONSTANT_OF[token.text])
            return self.function(token.text)
        return self.bracket(token.text)

    def bracket(self, mark: str) -> Node:
        if mark == "√":
            return Operation("sqrt", (self.factor() if self.marks("(", "{") else self.base(),))
        if mark == "∞":
            return Constant("∞")
        if mark in ("∠", "△"):
            name = "".join(self.take().text for _ in range(3) if (own := self.peek()) and own.kind == LETTER)
            if not name:
                raise Unreadable("an angle without a name")
            return Symbol(mark + name)
        if mark == "|":
            self.bars += 1
            node = self.sum()
            self.expect("|")
            self.bars -= 1
            return Operation("abs", (node,))
        if mark not in _OPEN:
            raise Unreadable(mark)
        node = self.nested(self.sum)
        if (word := self.peek()) is not None and word.kind == COMMAND and word.text == "choose":
            self.at += 1
            node = Operation("binom", (node, self.nested(self.sum)))
        self.expect(_OPEN[mark])
        return Operation({"⌊": "floor", "⌈": "ceil"}[mark], (node,)) if mark in "⌊⌈" else node

    def number(self, token: Token) -> Node:
        after = self.peek()
        if (
            after is not None
            and after.kind == COMMAND
            and after.text in ("overline", "bar", "dot")
            and "." in token.text
        ):
            self.at += 1
            period = flat(self.group())
            while (after := self.peek()) is not None and after.text == "dot":  # 0.\dot{1}4\dot{2} is not written so
                self.at += 1
                period += flat(self.group())
            return numerals.periodic(token.text, period)
        if self.skip("…"):
            return numerals.continued(token.text)
        node = numerals.read(token.text)
        if token.text.isdigit() and (part := self.fraction()) is not None:
            return Number(node.value + part)
        return node

    def fraction(self) -> Fraction | None:
        r"""The fraction of a mixed number, where one follows a whole number: ``\frac13`` or `` 1/3``."""
        place, token = self.at, self.peek()
        if token is None:
            return None
        if token.kind == COMMAND and token.text == "frac":
            self.at += 1
            try:
                top, bottom = self.argument(), self.argument()
            except Unreadable:
                top = bottom = Symbol("")
        elif token.kind == NUMBER and token.space and self.marks("/", ahead=1):
            top, bottom = numerals.read(token.text), Symbol("")
            if (last := self.peek(2)) is not None and last.kind == NUMBER:
                bottom = numerals.read(last.text)
            self.at += 3
        else:
            return None
        if isinstance(top, Number) and isinstance(bottom, Number) and 0 < top.value < bottom.value:
            return top.value / bottom.value
        self.at = place
        return None

    # Names

    def symbol(self, name: str) -> Node:
        primes = 0
        while True:
            if self.marks("_"):
                self.at += 1
                name += f"_{self.subscript()}"
            elif self.skip("'"):
                primes += 1
            elif self.marks("^") and self.primed():
                primes += self.primed()
                self.at += 1
                self.group()
            else:
                break
        name += "'" * primes
        if name in LETTER_CONSTANTS:
            return Constant(LETTER_CONSTANTS[name])
        applied = (
            self.marks("(") and (own := self.peek(1)) is not None and own.kind == NUMBER and self.marks(")", ahead=2)
        )
        if self.marks("(") and (primes or applied or name[0] in CALLED):
            return Operation(f"call:{name}", self.arguments())
        return Symbol(name)

    def primed(self) -> int:
        r"""How many primes ``^{\prime\prime}`` is; 0 where it is an exponent."""
        if self.marks("'", ahead=1):
            return 1
        if not self.marks("{", ahead=1):
            return 0
        count = 0
        while self.marks("'", ahead=2 + count):
            count += 1
        return count if self.marks("}", ahead=2 + count) else 0

    def arguments(self) -> tuple[Node, ...]:
        closing = _OPEN[self.take().text]
        found = [self.nested(self.sum)]
        while self.skip(","):
            found.append(self.nested(self.sum))
        self.expect(closing)
        return tuple(found)

    def function(self, name: str) -> Node:
        """A function by its name, with power, base and argument."""
        if name not in NAMED:
            raise Unreadable(f"{name} without a number before it")
        own = NAMED[name]
        power: Node | None = None
        base: tuple[Node, ...] = ()
        if self.skip("_"):
            base = (self.argument(whole_number=True),)
        if self.skip("^"):
            power = self.argument(whole_number=True)
        if not base and self.skip("_"):
            base = (self.argument(whole_number=True),)
        if self.marks("(", "[", "{"):
            arguments = self.arguments()
        elif own == "sqrt":
            arguments = (self.base(),)
        else:
            arguments = (self.operand(),)
        if own == "log" and base:
            node: Node = Operation("log", (*arguments, *base))
        else:
            node = Operation("log" if own == "ln" else own, arguments)
            if name in ("log", "lg"):
                node = Operation("log10" if name == "lg" else "log", arguments)
        if isinstance(power, Number) and power.value == -1 and own in ROUND:
            return Operation(f"arc{own}", arguments)
        return Operation("^", (node, power)) if power is not None else node

    def operand(self) -> Node:
        r"""The argument of a function without brackets: ``2\pi x`` in ``\sin 2\pi x \cos x``."""
        factors = [negative(self.factor()) if self.skip("-") else self.factor()]
        while self.follows() and (token := self.peek()) is not None:
            function = token.kind in (RUN, COMMAND) and token.text in FUNCTIONS and token.text != "sqrt"
            if function or token.marks("(", "[", "|"):
                break
            factors.append(self.factor())
        return factors[0] if len(factors) == 1 else Operation("*", tuple(factors))

    def command(self, name: str) -> Node:
        if name in FUNCTIONS and name != "sqrt":
            return self.function(name)
        if name == "sqrt":
            if self.skip("["):
                index = self.nested(self.sum)
                self.expect("]")
                return Operation("root", (self.argument(whole_number=True), index))
            return Operation("sqrt", (self.argument(whole_number=True),))
        if name == "frac":
            return self.divided()
        if name in ("binom", "dbinom", "tbinom"):
            return Operation("binom", (self.argument(), self.argument()))
        if name in _DECORATIONS:
            return self.symbol(f"{name}:{flat(self.group())}")
        if name in ("sum", "prod"):
            return self.series(name)
        if name == "partial":
            return self.symbol("∂")
        raise Unreadable(f"\\{name}")

    def divided(self) -> Node:
        """A fraction, or a derivative, which is one name."""
        place = self.at
        if self.marks("{"):
            top = self.group()
            bottom = self.group() if self.marks("{") else []
            if _differential(top) and _differential(bottom) and len(bottom) > 1:
                return self.symbol(f"{flat(top)}/{flat(bottom)}")
            self.at = place
        return Operation("/", (self.argument(), self.argument()))

    def series(self, name: str) -> Node:
        """A finite sum or product over whole numbers."""
        self.expect("_")
        self.expect("{")
        variable = self.base()
        self.expect("=")
        first = self.nested(self.sum)
        self.expect("}")
        self.expect("^")
        last = self.argument(whole_number=True)
        if not isinstance(variable, Symbol | Constant):
            raise Unreadable("a sum over no letter")
        return Operation(name, (Symbol(variable.name), first, last, bound_to(self.product(), variable.name)))


def _differential(tokens: Sequence[Token]) -> bool:
    """Whether tokens are ``d``, ``d^2 y``, ``\\partial x`` and the like."""
    if not tokens or tokens[0].text not in ("d", "partial") or len(tokens) > 16:
        return False
    return all(token.kind in (LETTER, NUMBER) or token.marks("^", "_", "{", "}") for token in tokens[1:])


_BASES = listed("frac sqrt binom dbinom tbinom sum prod partial")

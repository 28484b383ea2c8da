"""A place in tokens that a parser moves on from, and how deep it is."""

from __future__ import annotations

from collections.abc import Callable

from innerloop.evaluate.verify.values.names import flat
from innerloop.evaluate.verify.values.tokens import Token
from innerloop.evaluate.verify.values.tree import Node, Unreadable

DEEPEST = 50  # levels of brackets, roots, exponents, functions


class Cursor:
    """Tokens and a place in them; ``bars`` are the absolute values that are open."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0

    def peek(self, ahead: int = 0) -> Token | None:
        """The token that many ahead, or None."""
        place = self.at + ahead
        return self.tokens[place] if place < len(self.tokens) else None

    def marks(self, *texts: str, ahead: int = 0) -> bool:
        """Whether the token ahead is one of these marks."""
        token = self.peek(ahead)
        return token is not None and token.marks(*texts)

    def take(self) -> Token:
        """The next token, behind which the cursor moves."""
        token = self.peek()
        if token is None:
            raise Unreadable("ends too early")
        self.at += 1
        return token

    def expect(self, text: str) -> None:
        """Moves behind a mark that has to be there."""
        if not self.take().marks(text):
            raise Unreadable(f"no {text}")

    def skip(self, *texts: str) -> bool:
        """Moves behind one of these marks, where one is there; whether it was."""
        found = self.marks(*texts)
        self.at += found
        return found

    def deeper(self, read: Callable[[], Node]) -> Node:
        """What is read a level deeper."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("too deep")
        node = read()
        self.depth -= 1
        return node

    def nested(self, read: Callable[[], Node]) -> Node:
        """What stands between brackets, where a bar may open again."""
        bars, self.bars = self.bars, 0
        node = read()
        self.bars = bars
        return node

    def group(self) -> list[Token]:
        """The tokens of a group, or the next token."""
        if not self.skip("{"):
            return [self.take()]
        start, level = self.at, 1
        while level:
            token = self.take()
            level += token.marks("{") - token.marks("}")
        return self.tokens[start : self.at - 1]

    def subscript(self) -> str:
        """A group as a name."""
        return flat(self.group())

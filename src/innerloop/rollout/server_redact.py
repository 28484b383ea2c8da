"""What a server says, made fit to be kept or shown: the key taken out first, then made one line, then cut.

Everything that a server says and that reaches a run folder, a log or an error goes through a `Redactor`.
"""

from __future__ import annotations

import base64
import html
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MARK = "•••"
SHORTEST_KEY = 8  # characters; a shorter key cannot be told from ordinary text, and is a placeholder such as "EMPTY"

_SHOWN = 200  # characters of a server's words in a message
_ALSO = {"k": "\u212a", "s": "\u017f"}  # what Unicode takes for the same letter in another case
# Loggers of the HTTP client: at their lower levels they tell headers and reason phrases as they came.
_CLIENT_LOGGERS = ("httpx2", *(f"httpcore2.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")))


class Redactor:
    """Takes a key out of texts, however it is written there.

    Found are the key in either case; each of its characters percent-encoded, as a JSON, Python or HTML escape, or not;
    its bytes in hexadecimal; any base64 of it (``Basic`` authorisation too); and its first or last third where the
    rest was cut off.
    """

    def __init__(self, key: str | None) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._letters: Sequence[re.Pattern[str]] = ()
        if not key or len(key) < SHORTEST_KEY:
            return
        letters = [_written(letter) for letter in key]
        part = max(SHORTEST_KEY, len(key) // 3)
        ways = ["".join(letters[:part]), "".join(letters[-part:]), _either_case(key.encode().hex()), *_base64(key)]
        self._pattern = re.compile("|".join(ways))
        self._letters = [re.compile(letter) for letter in letters]
        self._head = re.compile("".join(letters[:part]))
        self._part = part

    @property
    def active(self) -> bool:
        """Whether there is a key to take out."""
        return self._pattern is not None

    def text(self, said: str) -> str:
        """The text without the key, and as Unicode: two halves of a character become one, a lone half is replaced."""
        said = joined_halves(said)
        if has_half(said):
            said = said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if self._pattern is None:
            return said
        parts, after = [], 0
        while (found := self._pattern.search(said, after)) is not None:
            parts += [said[after : found.start()], MARK]
            after = self._end(said, found)
        return said if not parts else "".join([*parts, said[after:]])

    def line(self, said: str | bytes, most: int = _SHOWN) -> str:
        """The beginning of what was said, as one printable line without the key."""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        flat = self.text(" ".join(text.split()))
        return (
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)[:most] or "(nothing)"
        )

    def _end(self, said: str, found: re.Match[str]) -> int:
        """Where the key ends that was found: behind its first third, as much of it as is there."""
        head, end = self._head.match(said, found.start()), found.end()
        if head is None:
            return end
        end = head.end()
        for letter in self._letters[self._part :]:
            following = letter.match(said, end)
            if following is None:
                break
            end = following.end()
        return max(end, found.end())

    @contextmanager
    def over_logs(self) -> Iterator[None]:
        """Takes the key out of what the HTTP client logs, too."""
        loggers = [logging.getLogger(name) for name in _CLIENT_LOGGERS]
        for logger in loggers:
            logger.addFilter(self._logged)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(self._logged)

    def _logged(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.text(record.getMessage()), ()
        return True


def has_half(text: str) -> bool:
    """Whether the text holds half a character (a surrogate), which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def joined_halves(text: str) -> str:
    """The text with every two halves of a character made one, as JSON's escapes write them."""
    if not has_half(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _written(letter: str) -> str:
    """A pattern for the ways in which one character of a key is written; no repetition in it is unbounded."""
    cases = sorted({letter, letter.lower(), letter.upper()})
    ways = [re.escape(case) for case in (*cases, *_ALSO.get(letter.lower(), ""))]
    for case in cases:
        code = f"{ord(case):02x}"
        hexadecimal = _either_case(code)
        ways += [f"%(?:25){{0,4}}{hexadecimal}", rf"\\{{1,8}}(?:[uU](?:0{{4}})?00|[xX]){hexadecimal}"]
        ways += [f"&#0{{0,8}}{ord(case)};?", f"&#[xX]0{{0,8}}{hexadecimal};?"]
        if (named := html.escape(case)) != case:
            ways.append(re.escape(named))
    if not letter.isalnum():
        ways.append(r"\\{1,8}" + re.escape(letter))
    if letter == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"


def _either_case(digits: str) -> str:
    """A pattern for a text of letters and digits in either case."""
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in digits)


def _base64(key: str) -> Iterator[str]:
    """Patterns for the base64 of any text that the key is part of: it may begin at any of three places in a group."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + key.encode()).decode()
        start, end = (0, 2, 3)[before], (before + len(key)) * 8 // 6
        symbols = (r"(?:\\{0,8}[/_]|%2[fF])" if c == "/" else r"(?:[+\-]|%2[bB])" if c == "+" else c for c in whole)
        yield "".join(list(symbols)[start:end]) + "[A-Za-z0-9+/_-]{0,2}={0,2}"

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
_ESCAPE = re.compile(r"%[0-9a-f]{2}|&(?:#|amp|quot|lt|gt)|\\(?:u00|x[0-9a-f]{2})")
_URL_SAFE = str.maketrans("+/", "-_")
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
        part, code, encoded = max(SHORTEST_KEY, len(key) // 3), key.encode().hex(), list(_base64(key))
        ways = ["".join(letters[:part]), "".join(letters[-part:]), _either_case(code), *map(_written_base64, encoded)]
        self._pattern = re.compile("|".join(ways))
        self._letters = [re.compile(letter) for letter in letters]
        self._head, self._tail = re.compile(ways[0]), re.compile(ways[1])
        self._key, self._part = key.casefold(), part
        plain = (key[:part], key[-part:], code, *encoded, *(way.translate(_URL_SAFE) for way in encoded))
        self._plain = [] if " " in key else [way.casefold().replace("\\", "") for way in plain]

    @property
    def active(self) -> bool:
        """Whether there is a key to take out."""
        return self._pattern is not None

    def text(self, said: str) -> str:
        """The text without the key, and as Unicode: two halves of a character become one, a lone half is replaced."""
        said = joined_halves(said)
        if has_half(said):
            said = said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if self._pattern is None or not self._may_hold(said):
            return said
        parts, after = [], 0
        while (found := self._pattern.search(said, after)) is not None:
            start, end = self._extent(said, found)
            parts += [said[after : max(start, after)], MARK]
            after = end
        return said if not parts else "".join([*parts, said[after:]])

    def _may_hold(self, said: str) -> bool:
        """Whether the pattern has to be looked for, which takes ten times as long as this."""
        folded = said.casefold()
        if not self._plain or _ESCAPE.search(folded) is not None:
            return True
        bare = folded.replace("\\", "")
        return any(way in bare for way in self._plain)

    def line(self, said: str | bytes, most: int = _SHOWN) -> str:
        """The beginning of what was said, as one printable line without the key."""
        text = said.decode(errors="replace") if isinstance(said, bytes) else said
        flat = self.text(" ".join(text.split()))
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat[:most])
        return shown[:most] or "(nothing)"

    def _extent(self, said: str, found: re.Match[str]) -> tuple[int, int]:
        """All that is there of the key where its first or its last third was found."""
        start, end = found.span()
        before = self._key[: -self._part] if self._tail.fullmatch(found[0]) else ""
        for letter in reversed(before):
            if said[start - 1 : start].casefold() != letter:
                break
            start -= 1
        if (head := self._head.match(said, start)) is None:
            return start, end
        reached = head.end()
        for written in self._letters[self._part :]:
            following = written.match(said, reached)
            if following is None:
                break
            reached = following.end()
        return start, max(end, reached)

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
    """The middle of the base64 of any text that the key is part of: it may begin at any of three places in a group."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + key.encode()).decode()
        yield whole[(0, 2, 3)[before] : (before + len(key)) * 8 // 6]


def _written_base64(encoded: str) -> str:
    """A pattern for base64 in both of its alphabets, with what belongs to the same groups at its end."""
    other = {"/": r"(?:\\{0,8}[/_]|%2[fF])", "+": r"(?:[+\-]|%2[bB])"}
    return "".join(other.get(symbol, symbol) for symbol in encoded) + "[A-Za-z0-9+/_-]{0,2}={0,2}"

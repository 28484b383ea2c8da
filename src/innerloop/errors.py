"""What goes wrong because of the input, told in one line."""

from __future__ import annotations

import re

_LONGEST = 4000  # characters of a message; what it quotes may be of any size
_BREAK = re.compile(r"(?<![ \t])[ \t]*+[\r\n]++[ \t]*+")


class InputError(ValueError):
    """Unusable input or arguments: the message names the file, line or field and the remedy.

    The command line prints it without a traceback and exits with 2. Messages quote files, names and answers of any
    content, so line breaks become spaces here, half characters are shown as escapes, and the middle of what is very
    long is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))


def _one_line(text: str) -> str:
    text = _BREAK.sub(" ", text).encode("utf-8", "backslashreplace").decode()
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an error says, or its kind where it says nothing; ``most`` characters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]

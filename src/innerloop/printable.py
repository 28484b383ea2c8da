"""Text of models, files and servers as a terminal may have it.

A terminal obeys control characters: they clear the screen, set its title, write to the clipboard, hide text or fake
lines of ours. What is not printable is therefore shown by its Python escape, ``\\x1b`` or ``\\u202e``. Everything that
the command line prints goes through here (`innerloop.terminal`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

MESSAGE = 4000  # characters of a message; what it quotes may be of any size
_BREAKS = re.compile(r"[\r\n]+")
# Letters and marks to Unicode, but nothing to the eye: fillers, joiners and selectors that can hide text. The selectors
# U+FE00 to U+FE0F stay, which choose how an emoji looks.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef"
_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # wide and narrow ones, which Python calls unprintable
_BLANKS = re.compile(f"[{_BLANK}]")
_NOT_ASCII = re.compile(f"[^ -~{_SPACES}]")


def printable(text: str, keep: str = "") -> str:
    r"""``text`` with each character that is not printable as its escape; those in ``keep`` stay (``"\n"``).

    Controls (C0, DEL, C1), format characters (bidirectional and zero-width ones, tags), line and paragraph separators,
    halves of surrogate pairs, private and unassigned characters, and letters that show nothing.
    """
    if text.isascii() and text.isprintable():
        return text

    def shown(match: re.Match[str]) -> str:
        letter = match[0]
        if letter in keep or (letter.isprintable() and not _BLANKS.match(letter)):
            return letter
        return letter.encode("unicode_escape").decode("ascii")

    return _NOT_ASCII.sub(shown, text)


def one_line(text: str, most: int | None = None) -> str:
    """``text`` on one line: line breaks with the space around them as a space, all else as in `printable`.

    Of more than ``most`` characters the middle is left out: what a message quotes, rather than its remedy.
    """
    if most is not None and len(text) > most:
        half = (most - len(" … ")) // 2
        text = f"{text[:half]} … {text[-half:]}"
    if "\n" in text or "\r" in text:
        text = " ".join(part.strip() for part in _BREAKS.split(text))
    return printable(text)


def shell_words(words: Iterable[str]) -> str:
    """A command line that a shell reads as these words, and that can be shown and copied.

    A word that is not printable is written as ``$'…'`` with its bytes in octal, for bash, zsh, ksh and POSIX 2024.
    """
    return " ".join(map(shell_word, words))


def shell_word(word: str) -> str:
    """One word of `shell_words`."""
    if printable(word) == word:
        return shlex.quote(word)
    parts = []
    for letter in word:
        if letter in "\\'":
            parts.append(f"\\{letter}")
        elif printable(letter) == letter:
            parts.append(letter)
        else:
            errors = "surrogateescape" if _byte(letter) else "surrogatepass"
            parts += [f"\\{byte:03o}" for byte in letter.encode("utf-8", errors)]
    return f"$'{''.join(parts)}'"


def _byte(letter: str) -> bool:
    """Whether this stands for a byte of a file name that is no UTF-8."""
    return "\udc80" <= letter <= "\udcff"

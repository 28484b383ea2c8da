"""What goes wrong because of the input, told in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input or arguments: the message names the file, line or field and the remedy.

    The command line prints it without a traceback and exits with 2.
    """


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an error says, or its kind where it says nothing; ``most`` characters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]

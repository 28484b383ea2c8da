"""What goes wrong because of the input, told in one line."""

from __future__ import annotations

from innerloop.printable import MESSAGE, one_line


class InputError(ValueError):
    """Unusable input or arguments: the message names the file, line or field and the remedy.

    The command line prints it without a traceback and exits with 2. Messages quote files, names and answers of any
    content, so line breaks become spaces here, what is not printable is shown as its escape, and the middle of what is
    very long is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message, MESSAGE))


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an error says, or its kind where it says nothing; ``most`` characters of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]

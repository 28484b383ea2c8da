"""What goes wrong because of the input, told in one line."""

from __future__ import annotations


class InputError(ValueError):
    """Unusable input or arguments: the message names the file, line or field and the remedy.

    The command line prints it without a traceback and exits with 2.
    """

"""What libraries raise over files that they cannot use, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from innerloop.errors import InputError, first_line

_SAID = 300  # characters of a library's message that are worth a line


@contextmanager
def told(said: str) -> Iterator[None]:
    """InputError "``said``: reason" for whatever is raised over a file that came from elsewhere.

    transformers, tokenizers and safetensors promise no kind of error for files that are damaged or made to do damage;
    a panic of a library in Rust is not even an ``Exception``.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{said}: {first_line(error, _SAID)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{said}: {first_line(error, _SAID)}") from error

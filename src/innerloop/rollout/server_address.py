"""Where a server is, and the key to it. The key is read from the environment and never written anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from innerloop.errors import InputError
from innerloop.rollout.server_redact import Redactor

KEY_VARIABLE = "INNERLOOP_API_KEY"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,40}")  # a key hardly looks like that


def check_installed() -> None:
    """`InputError` where the package that talks to servers is missing."""
    if find_spec("httpx2") is None:
        raise InputError("engine server needs the package httpx2: pip install 'innerloop[openai]'")


def base_address(url: str) -> str:
    """The address that paths are put behind, ``/v1`` where none is given. `InputError` for what is no address."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        _ = parts.port  # reading it checks it
    except ValueError:
        parts = urlsplit("")
    if parts.username or parts.password or parts.query or parts.fragment:  # which may be a key: not quoted
        raise InputError(f"--server: the address holds more than a place; put the key into {KEY_VARIABLE} instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--server {url!r}: give an address such as http://localhost:8000/v1")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def key_from(variable: str | None) -> str | None:
    """The server's key from the environment.

    `InputError` where a variable is named that does not exist, or holds what no header can carry. What may be a key
    itself is not quoted.
    """
    found = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not found:
        if not _VARIABLE.fullmatch(variable):
            raise InputError("--key-env: give the name of an environment variable that holds the key, not the key")
        raise InputError(f"--key-env {variable}: there is no such environment variable; set it to the server's key")
    if not (found.isascii() and found.isprintable()):
        raise InputError(f"the key in {variable or KEY_VARIABLE} has characters that no key has; set it anew")
    return found or None


def refuse_in_settings(key: str | None, settings: Iterable[tuple[str, object]]) -> None:
    """`InputError` for a setting that holds the key: settings and the command line are written to the run folder."""
    if key is None or not (redactor := Redactor(key)).active:
        return
    for name, value in settings:
        texts = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(text, str) and redactor.text(text) != text for text in texts):
            raise InputError(
                f"--{name.replace('_', '-')} holds the server's key; leave it out, it would be written down"
            )

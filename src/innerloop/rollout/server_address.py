"""Where a server is, and the key to it. The key is read from the environment and never written anywhere."""

from __future__ import annotations

import os
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from innerloop.errors import InputError

KEY_VARIABLE = "INNERLOOP_API_KEY"


def check_installed() -> None:
    """`InputError` where the package that talks to servers is missing."""
    if find_spec("httpx2") is None:
        raise InputError("engine server needs the package httpx2: pip install 'innerloop[openai]'")


def base_address(url: str) -> str:
    """The address that paths are put behind, ``/v1`` where none is given. `InputError` for what is no address."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--server {url!r}: give an address such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(f"--server: the address holds more than a place; put the key into {KEY_VARIABLE} instead")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def key_from(variable: str | None) -> str | None:
    """The server's key from the environment; `InputError` where a variable is named that does not exist."""
    found = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not found:
        raise InputError(f"--key-env {variable}: there is no such environment variable; set it to the server's key")
    return found or None

"""Whether the user who reads a checkpoint is the one who wrote it.

Some of what trainers write is read by unpickling, which runs what is in it. Such a file is only read where a key, which
never leaves the user's own folder, says that it is as this user wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

_BYTES = 32


def of(content: Mapping[str, Any]) -> str:
    """The seal of a JSON-able content."""
    return hmac.new(_key(), json.dumps(content, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def holds(content: Mapping[str, Any], seal: Any) -> bool:
    """Whether a seal is this user's, on this content."""
    return isinstance(seal, str) and seal.isascii() and hmac.compare_digest(of(content), seal)


def _key() -> bytes:
    """The user's key; made where there is none."""
    file = Path(platformdirs.user_data_path("innerloop")) / "seal.key"
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, os.urandom(_BYTES))
        finally:
            os.close(handle)
    return file.read_bytes()

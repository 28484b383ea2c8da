r"""Ids made of parts, which no two different choices of parts share.

``QUESTION/sample-3``, ``TRAJECTORY/shuffled`` and ``QUESTION/path`` end in a word of ours without a slash, whatever the
question's id is, and are read from their end. Where a name that somebody else chose comes first, its separators are
escaped (`joined`), or its slashes where one name continues another (`prefixes`). Where an id of ours meets one that
somebody chose, `apart` refuses. Names without special characters stay as they are.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import quote

from innerloop.errors import InputError

_LONGEST = 100  # bytes of a file's name made from an id; file systems allow 255
_OTHERS = re.compile(r"[^\w.=@+-]+")  # what a file's name had better not hold
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)  # devices to Windows


def joined(name: str, rest: str, separator: str) -> str:
    r"""``name``, the separator, ``rest``; a separator or backslash in the name has a backslash before it."""
    return f"{_escaped(name, separator)}{separator}{rest}"


def _escaped(name: str, separator: str) -> str:
    return name.replace("\\", "\\\\").replace(separator, f"\\{separator}")


def prefixes(names: Collection[str]) -> dict[str, str]:
    """For each name what ids of its own begin with, ``NAME/``; no such beginning is the beginning of another one.

    Where a name is another one with more after a slash, all of them stand in parentheses, with special characters as in
    an address: ``a/b`` is ``(a%2Fb)/``. So they are told from ids of before this was done, which had them plain.
    """
    plain = {name: f"{name}/" for name in names}
    if any(longer.startswith(shorter) for shorter, longer in itertools.pairwise(sorted(plain.values()))):
        return {name: f"({quote(name, safe=' ', errors='surrogatepass')})/" for name in names}
    return plain


def apart(made: Iterable[str], given: Collection[str], what: str) -> None:
    """`InputError` where an id that we make is also one of those given; ``what`` says what ours stands for."""
    for name in made:
        if name in given:
            raise InputError(f"trajectory {name!r} has the id of {what} here; give its row an id of its own")


def file_names(names: Iterable[str], otherwise: str) -> Iterator[str]:
    """Ids as names of files or folders, each another one wherever they are kept; ``otherwise`` where nothing is left.

    No separators, no name of a device or of a folder above, none too long, and no two that differ only in case or in
    how an accent is written.
    """
    used: set[str] = set()
    for name in names:
        plain = _OTHERS.sub("-", unicodedata.normalize("NFC", name)).strip("-.") or otherwise
        if _RESERVED.match(plain):
            plain = f"{otherwise}-{plain}"
        if len(plain.encode()) > _LONGEST:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            plain = f"{plain.encode()[: _LONGEST - 13].decode(errors='ignore')}-{digest}"
        free = next(
            again for i in itertools.count(1) if (again := f"{plain}-{i}" if i > 1 else plain).casefold() not in used
        )
        used.add(free.casefold())
        yield free

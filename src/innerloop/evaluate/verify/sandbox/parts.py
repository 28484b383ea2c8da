"""What a sandbox starts with: a command line for each kind, the text of what runs inside, a user id for it alone.

No file of ours is seen inside, so the parts travel compiled; compiling them there would cost each start.
"""

from __future__ import annotations

import binascii
import itertools
import marshal
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from innerloop.evaluate.verify.sandbox import bubblewrap
from innerloop.evaluate.verify.sandbox.limits import Limits

_MARKS = {"inside": "a program", "serve": "a worker"}  # what a list of processes shows
_BOOT = "# {mark} in innerloop's sandbox\nimport binascii, marshal\nexec(marshal.loads(binascii.a2b_base64('{code}')))"


@lru_cache
def compiled(name: str) -> str:
    """The file ``name`` of this folder as code objects in base64, which `inside.py` executes."""
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    code = marshal.dumps(compile(text, f"<{name}.py>", "exec", dont_inherit=True))
    return binascii.b2a_base64(code, newline=False).decode()


def command(name: str, limits: Limits, *, weaker: bool, also: Sequence[str] = ()) -> list[str]:
    """The command line that runs a file of this folder in a sandbox; ``also`` are further folders to be read there."""
    boot = _BOOT.format(mark=_MARKS[name], code=compiled(name))
    if weaker:
        return [*bubblewrap.interpreter(), boot]
    bwrap = bubblewrap.find()
    assert bwrap is not None, "tried before"
    return bubblewrap.command(bwrap, boot, limits, also=also)


def own_users(first: int) -> Callable[[], int | None]:
    """Gives user ids from ``first`` on that nobody has, each to one process of ours; None where we are not root."""
    numbers = itertools.count()

    def own_user() -> int | None:
        return first + os.getpid() % 100_000 * 1000 + next(numbers) % 1000 if os.geteuid() == 0 else None

    return own_user

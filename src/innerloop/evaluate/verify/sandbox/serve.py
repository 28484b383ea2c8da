"""What a worker process starts with inside a sandbox: doors are closed, then the package is imported and serves.

``python -c`` gets the text of this file. The first line on standard input says what to do (see ``service``), and brings
the text of ``inside.py``, whose means are used here. All that is imported is read-only for this process.

In the weaker mode there are no namespaces. Where the system call filter can be had, it refuses the network, other
programs and signals all the same. The audit hook follows before the first job that has to be inside, because it would
be in the way of imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
from typing import Any

_NOWHERE = "/dev/null/nowhere"  # where a worker may write in the weaker mode


def main() -> None:
    """Closes the doors, and hands over to the worker."""
    order = json.loads(sys.stdin.buffer.readline())
    weaker, readable = order["weaker"], order["readable"]
    inside: Any = types.ModuleType("inside")
    exec(order["inside"], inside.__dict__)
    sys.path += order["paths"]
    if weaker:
        inside._keep_readable([*readable, *order["paths"]])
    inside._become(order["user"])
    if weaker:
        inside._die_with_parent()
    os.chdir(order["folder"])
    inside._limit(order["limits"])

    def guard() -> None:
        if weaker:
            inside._guard(_NOWHERE, (*readable, *sys.path))

    from innerloop.evaluate.verify.sandbox import seccomp
    from innerloop.evaluate.verify.worker import main

    with contextlib.suppress(OSError):  # an old kernel, or another machine: the rest remains
        seccomp.install(alone=True)
    main(order["time"], order["memory"], guard)


if __name__ == "__main__":
    main()

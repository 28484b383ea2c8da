"""What a worker process starts with inside a sandbox: doors are closed, then the package is imported and serves.

``python -c`` gets the text of this file. The first line on standard input says what to do (see ``service``), and brings
the texts of ``inside.py`` and ``landlock.py``, whose means are used here. All that is imported is read-only for this
process.

In the weaker mode there are no namespaces. Where the system call filter and Landlock can be had, the one refuses the
network, other programs and signals all the same, the other all files but those of the packages and of a private folder.
The audit hook follows before the first job that has to be inside, because it would be in the way of imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types
from typing import Any


def main() -> None:
    """Closes the doors, and hands over to the worker."""
    order = json.loads(sys.stdin.buffer.readline())
    weaker, readable = order["weaker"], order["readable"]
    inside, landlock = _module("inside", order), _module("landlock", order)
    sys.path += order["paths"]
    rules = None
    if weaker:
        shown = (*readable, *order["paths"], *inside._DEVICES, *inside._LIBRARIES)
        rules = landlock.prepare(shown, (order["folder"],))  # while closed folders can still be opened
        inside._keep_readable([*readable, *order["paths"]])
    inside._become(order["user"])
    if weaker:
        inside._die_with_parent()
    os.chdir(order["folder"])
    inside._limit(order["limits"])

    def guard() -> None:
        if weaker:
            inside._guard(order["folder"], (*readable, *sys.path))

    from innerloop.evaluate.verify.sandbox import seccomp
    from innerloop.evaluate.verify.worker import main

    if rules is not None:
        landlock.enforce(rules)
    with contextlib.suppress(OSError):  # an old kernel, or another machine: the rest remains
        seccomp.install(alone=True)
    main(order["time"], order["memory"], guard)


def _module(name: str, order: dict[str, Any]) -> Any:
    """A file of the sandbox, of which only the text is here yet."""
    module = types.ModuleType(name)
    exec(order[name], module.__dict__)
    return module


if __name__ == "__main__":
    main()

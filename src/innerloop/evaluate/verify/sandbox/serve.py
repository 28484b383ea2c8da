"""What a worker process starts with inside a sandbox: doors are closed, then the package is imported and serves.

``python -c`` gets this file compiled. The first line on standard input says what to do (see ``service``), and brings
``inside.py`` and ``landlock.py``, compiled too, whose means are used here. All that is imported is read-only for this
process.

In the weaker mode there are no namespaces. Where the system call filter and Landlock can be had, the one refuses the
network, other programs and signals all the same, the other all files but those of the packages and of a private folder.
The audit hook follows before the first job that has to be inside, because it would be in the way of imports.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import marshal
import os
import sys
import types


def main() -> None:
    """Closes the doors, and hands over to the worker."""
    order = json.loads(sys.stdin.buffer.readline())
    weaker, readable = order["weaker"], order["readable"]
    inside = types.ModuleType("inside")
    exec(marshal.loads(binascii.a2b_base64(order["parts"]["inside"])), inside.__dict__)
    landlock = inside._part(order, "landlock")
    sys.path += order["paths"]
    rules = None
    if weaker:
        shown = (*readable, *order["paths"], *inside._DEVICES, *inside._LIBRARIES)
        rules = landlock["prepare"](shown, (order["folder"],))  # while closed folders can still be opened
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
        landlock["enforce"](rules)
    with contextlib.suppress(OSError):  # an old kernel, or another machine: the rest remains
        seccomp.install(alone=True)
    main(order["time"], order["memory"], guard)


if __name__ == "__main__":
    main()

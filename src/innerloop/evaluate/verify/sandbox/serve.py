"""What a worker process starts with inside a sandbox: the doors are closed, then the package is imported and serves.

``python -c`` gets the text of this file. The first line on standard input says what to do (see ``service``), and brings
the text of ``inside.py``, whose means are used here. All that is imported later is read-only inside.
"""

from __future__ import annotations

import json
import os
import sys
import types
from typing import Any

_NOWHERE = "/dev/null/nowhere"  # where the weaker sandbox may write


def main() -> None:
    """Closes the doors, and hands over to the worker."""
    order = json.loads(sys.stdin.buffer.readline())
    inside: Any = types.ModuleType("inside")
    exec(order["inside"], inside.__dict__)

    def ended(**said: Any) -> None:  # by the half that stays outside of the weaker sandbox
        code = said["ended"]
        os._exit(code if code >= 0 else 128 - code)

    weaker = order["weaker"]
    if weaker:
        inside._split_off(ended)
        inside._keep_readable(order["readable"])
    inside._become(order["user"])
    if weaker:
        inside._die_with_parent()
    os.chdir(order["folder"])
    inside._limit(order["limits"])
    sys.path += order["paths"]

    def guard() -> None:
        """The audit hook of the weaker sandbox, which would be in the way of imports."""
        if weaker:
            inside._guard(_NOWHERE, (*order["readable"], *sys.path))

    from innerloop.evaluate.verify.worker import main

    main(order["time"], order["memory"], guard)


if __name__ == "__main__":
    main()

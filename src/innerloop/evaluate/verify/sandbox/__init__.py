"""Running code that nobody vouches for."""

from __future__ import annotations

from innerloop.evaluate.verify.sandbox.limits import Ended, Limits, Stop
from innerloop.evaluate.verify.sandbox.sandbox import Choice, Kind, Sandbox, choose

__all__ = ["Choice", "Ended", "Kind", "Limits", "Sandbox", "Stop", "choose"]

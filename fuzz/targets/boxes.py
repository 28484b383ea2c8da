r"""The boxes of a text: every one lies in the text as it says, and what it holds is inside its own braces."""

from __future__ import annotations

from innerloop.boxed import boxes, last_boxed

INSTRUMENT = ("innerloop.boxed",)


def one(data: bytes) -> None:
    """Any text has boxes, or none."""
    text = data.decode(errors="replace")
    found = boxes(text)
    for box in found:
        assert 0 <= box.start < box.inner_start < box.inner_end <= box.end <= len(text)
        assert box.content
    assert (last_boxed(text) is None) == (not found)

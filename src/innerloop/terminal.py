"""The one way to standard output and standard error: nothing that a terminal would obey gets through, except our own.

While a command runs, `guarded` puts a `Guarded` stream in the place of each of the two. Whoever writes there, be it a
library, a traceback or a log line, writes through `innerloop.printable`. Colours, tables and progress bars are rich's;
its console writes to the terminal itself, with the texts in it made printable and no markup read from them.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from innerloop.printable import printable


class Console(RichConsole):
    """A console whose texts hold no markup, no emoji names and no control characters.

    Strings are made printable before they are measured, so that tables keep their shape; whatever else is shown is made
    so as it is rendered, and loses its links.
    """

    def __init__(self, stream: TextIO | None = None, **options: Any) -> None:
        plain = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(file=raw(stream or sys.stdout), **plain | options)

    def render_str(self, text: str, **options: Any) -> Text:
        """One line of text, as it is."""
        return super().render_str(printable(text), **options | {"markup": False, "emoji": False, "highlight": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that can be shown."""
        for segment in super().render(renderable, options):
            yield (
                segment if segment.is_control else Segment(printable(segment.text, keep="\n"), _unlinked(segment.style))
            )


def _unlinked(style: Style | None) -> Style | None:
    return style.update_link(None) if style is not None and style.link else style


class Guarded(io.TextIOBase):
    """A text stream in front of another, which gets printable text and line feeds alone.

    A carriage return, with which libraries draw bars over and over, begins a new line. With a ``console``, that of a
    progress bar, whole lines go above what it shows.
    """

    def __init__(self, stream: TextIO, console: RichConsole | None = None) -> None:
        self.stream = stream
        self._console = console
        self._rest = ""
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The other stream's."""
        return self.stream.encoding

    def write(self, text: str) -> int:
        """Write ``text``, made printable."""
        safe = printable(text.replace("\r\n", "\n").replace("\r", "\n"), keep="\n")
        with self._lock:
            if self._console is None:
                self.stream.write(safe)
                return len(text)
            *lines, self._rest = (self._rest + safe).split("\n")
            for line in lines:
                self._console.print(Text(line), soft_wrap=True)
        return len(text)

    def release(self) -> None:
        """The bar is gone: what has not been ended by a line feed is written, and all else as it comes."""
        with self._lock:
            self._console = None
            self.stream.write(self._rest)
            self._rest = ""

    def flush(self) -> None:
        """Flush the other stream."""
        self.stream.flush()

    def fileno(self) -> int:
        """The other stream's."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Whether the other stream is a terminal."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True


def raw(stream: TextIO) -> TextIO:
    """What stands behind a guarded stream, for who writes printable text with control sequences of his own."""
    while isinstance(stream, Guarded):
        stream = stream.stream
    return stream


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever is written to standard output and standard error in the block is made printable."""
    before = sys.stdout, sys.stderr
    try:
        for stream in before:
            with suppress(AttributeError, OSError, ValueError):  # a terminal that cannot show a letter gets its escape
                cast("Any", raw(stream)).reconfigure(errors="backslashreplace")
        sys.stdout, sys.stderr = (cast("TextIO", Guarded(raw(stream))) for stream in before)
        yield
    finally:
        sys.stdout, sys.stderr = before

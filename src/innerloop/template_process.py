"""The process that renders chat templates (`innerloop.templates`): one request a line, one answer a line.

Run by its path, with the limits in JSON and then the folders to import from as arguments. It imports nothing of this
package, and of others only Jinja, so that it starts in a tenth of a second and never holds much memory.

A chat template is written for transformers, which renders it in Jinja's sandbox with a few names of its own. Those are
here too (``tojson``, ``raise_exception``, ``strftime_now``, ``{% generation %}``, loop controls), and so is how it
treats blanks; a test compares what both make of the same templates. Only the day is not the clock's: it is an input.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

_KEPT = 8  # compiled templates


def main(limits: dict[str, int]) -> None:
    """Answers until standard input ends, or until a template breaks a limit."""
    import signal

    _restrict(limits["memory"])
    compiled: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, limits["seconds"])  # of processor time; what it takes over ends us
        try:
            said = json.dumps(_answer(json.loads(line), compiled, limits["characters"]))
        except MemoryError:
            said = json.dumps({"error": f"it needs more than {limits['memory'] >> 20} MiB of memory for one prompt"})
        except Exception as error:  # noqa: BLE001  # a template is a program, and may raise anything
            said = json.dumps({"error": _told(error)})
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


def _restrict(memory: int) -> None:
    """Bounds on memory, and no files: neither core dumps nor any that could be written."""
    import resource

    for name, most in (("RLIMIT_AS", memory), ("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 0)):
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _answer(request: dict[str, Any], compiled: dict[str, Any], most: int) -> dict[str, Any]:
    key = request["template"]
    if "source" in request:
        while len(compiled) >= _KEPT:
            del compiled[next(iter(compiled))]
        compiled[key] = _environment().from_string(request["source"])
    if key not in compiled:
        return {"unknown": True}
    parts: list[str] = []
    length = 0
    day = datetime.fromisoformat(request["date"])
    variables = {"strftime_now": day.strftime} | request["variables"]
    for part in compiled[key].generate(**variables):
        parts.append(part)
        length += len(part)
        if length > most:
            raise OverflowError(f"it makes more than {most:,} characters of one prompt")
    return {"text": "".join(parts)}


def _told(error: Exception) -> str:
    """One line that is not long. What a template raises itself, and what Jinja says, needs no name of a class."""
    from jinja2 import TemplateError

    lines = str(error).strip().splitlines() or [""]
    named = isinstance(error, (TemplateError, OverflowError)) and lines[0]
    return (lines[0] if named else f"{type(error).__name__}: {lines[0]}")[:300]


def _environment() -> Any:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}…{% endgeneration %}`` marks what the assistant says, which changes nothing of it."""

        tags = {"generation"}  # noqa: RUF012  # as Jinja wants it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

        def _same(self, caller: Any) -> Any:
            return caller()

    class Namespace(jinja2.utils.Namespace):
        """Without names that begin with an underscore, as transformers has it."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # a template may name a value "self"
            attributes = dict(*args[1:], **kwargs)
            for name in attributes:
                _check_name(name)
            jinja2.utils.Namespace.__init__(args[0], attributes)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_name(name)
            super().__setitem__(name, value)

    def _check_name(name: str) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "namespace": Namespace,
    }
    return environment


if __name__ == "__main__":
    sys.path.extend(sys.argv[2:])
    main(json.loads(sys.argv[1]))

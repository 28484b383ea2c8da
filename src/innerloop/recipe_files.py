"""Settings from a file: ``--recipe FILE.toml`` beside the options of the command line, which win over it.

A file has a table for each command that it is for, as ``[train.sft]``, with the command's options in it, written as on
the command line without the dashes (``learning-rate = 1e-5``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from innerloop.errors import InputError, first_line
from innerloop.input_files import opened

_LARGEST = 1 << 20  # bytes
_DEEPEST = 2  # tables within tables: a command has two words at most
OPTION = "--recipe"
HELP = "A TOML file with options of this command; those of the command line win over it."


class RecipeFile:
    """Fills in what a command line leaves open, from the file that its ``--recipe`` names."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Called by cyclopts between parsing the command line and converting it."""
        given = next((argument.tokens for argument in arguments if argument.name == OPTION), ())
        if not given:
            return
        file = Path(given[-1].value)
        options = _options(file, commands)
        names = [name for argument in arguments for name in argument.names if name not in (OPTION, "--help")]
        written: dict[str, str] = {}
        for key in options:
            option = f"--{key.replace('_', '-')}"
            place = f"{file}, [{'.'.join(commands)}]"
            if option not in names:
                raise InputError(f"{place}: unknown key {key!r}{_nearest(key, names)}")
            if written.setdefault(option, key) != key:
                raise InputError(f"{place}: {written[option]!r} and {key!r} are one option; take one of them out")
        for command in reversed(commands):  # without its commands, cyclopts drops options that are called like one
            options = {command: options}
        Dict(options, source=str(file))(app, commands, arguments)


def _options(file: Path, commands: Sequence[str]) -> dict[str, Any]:
    """The table of a command. `InputError` for a file that cannot be read or is for other commands."""
    table = _read(file)
    tables = _tables(table)
    for command in commands:
        table = table.get(command) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        there = f"it has {', '.join(f'[{name}]' for name in tables)}" if tables else "it has no table at all"
        raise InputError(f"{file}: has no table [{'.'.join(commands)}], {there}; take the file of this command")
    return table


def _read(file: Path) -> Any:
    """The whole file as a table."""
    try:
        with opened(file) as stream:
            text = stream.read(_LARGEST + 1).decode("utf-8-sig")
        if len(text) > _LARGEST:
            raise InputError(f"--recipe {file}: larger than {_LARGEST >> 20} MiB; name a TOML file with options")
        return tomllib.loads(text)
    except InputError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--recipe {file}: cannot be read ({error}); name a TOML file") from error
    except (ValueError, RecursionError) as error:  # no TOML; a date that there is not; brackets without end
        raise InputError(f"{file}: not TOML ({first_line(error, 200)}); see recipes/ for examples") from error


def _tables(table: dict[str, Any], above: str = "") -> list[str]:
    """Names of the tables that hold options: ``train.sft``."""
    found: list[str] = []
    for name, entry in table.items():
        if isinstance(entry, dict):
            below = _tables(entry, f"{above}{name}.") if above.count(".") < _DEEPEST else []
            found += below or [f"{above}{name}"]
    return found


def _nearest(key: str, names: Sequence[str]) -> str:
    from innerloop.nearest import nearest

    near = nearest(key.replace("_", "-"), [name.removeprefix("--") for name in names])
    return near or "; --help lists the options"

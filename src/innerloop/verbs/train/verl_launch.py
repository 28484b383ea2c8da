"""The script that launches verl, and the words of its command line.

Each word goes through two readers: the shell, and Hydra, whose grammar has meanings of its own for commas, braces,
brackets, quotation marks and ``null``. Values are written so that both give verl the text that is meant, and nothing
else is left to the shell than the script's own variables. OmegaConf, which reads the values last, has no lasting escape
for ``${``, so a text that holds it is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from innerloop.errors import InputError

_QUOTE = re.compile(r"(?<!\\)(\\*+)'")
_BARE = re.compile(r"[A-Za-z0-9_./-]+")  # what needs no quotes in Hydra's grammar, unless it reads as something else
_OTHER_KINDS = re.compile(r"null|true|false|[+-]?(?:nan|inf|[0-9][0-9_.e+-]*|\.[0-9][0-9_.e+-]*)", re.IGNORECASE)

_SCRIPT = r"""#!/bin/sh
# {what} on a verl cluster (checked with verl {verl}). Written by innerloop.
#   GPUS=8 NODES=1 ./launch.sh [further overrides]
# On every machine: pip install verl innerloop, and this folder at the same path.
set -eu
HERE=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
export PYTHONPATH="$HERE${{PYTHONPATH:+:$PYTHONPATH}}"
case "$HERE$PYTHONPATH" in
*'${{'* | *[[:cntrl:]]*)
    echo 'launch.sh: this folder or PYTHONPATH has a control character or ${{ in its name: move it' >&2
    exit 2
    ;;
esac
# A text as a value of Hydra's grammar, in quotes where it needs some; called in a shell of its own.
hydra() {{
    export LC_ALL=C
    case $1 in
    *[!A-Za-z0-9_./-]*)
        printf '%s\n' "$1" | sed -e "s/\(\\\\*\)'/\1\1\\\\'/g" -e 's/\(\\*\)$/\1\1/' -e "s/^/'/" -e "s/\$/'/"
        ;;
    *) printf '%s\n' "$1" ;;
    esac
}}
{command} \
{overrides} \
    "$@"
"""


@dataclass(frozen=True)
class InFolder:
    """A file of the exported folder, wherever that is when it is launched."""

    name: str


@dataclass(frozen=True)
class Variable:
    """A variable of the launching shell, and what stands for it where it has none."""

    name: str
    otherwise: int | None = None


def script(what: str, verl: str, command: str, overrides: Mapping[str, Any]) -> str:
    """The launch script; ``command`` is shell text of ours, ``overrides`` are verl's settings by name."""
    lines = [f"    {word(name, value)}" for name, value in overrides.items()]
    return _SCRIPT.format(what=what, verl=verl, command=command, overrides=" \\\n".join(lines))


def word(name: str, value: Any) -> str:
    """``name=value`` as one word of the shell, one override of Hydra."""
    if isinstance(value, InFolder):
        return f'{name}="$(hydra "$HERE"/{shlex.quote(value.name)})"'
    if isinstance(value, Variable):
        if value.otherwise is None:
            return f'{name}="$(hydra "${value.name}")"'
        return f'{name}="${{{value.name}:-{value.otherwise}}}"'
    if isinstance(value, list | tuple):
        return shlex.quote(f"{name}=[{','.join(map(_value, value))}]")
    return shlex.quote(f"{name}={_value(value)}")


def _value(value: Any) -> str:
    """A value in Hydra's grammar: in quotes, a backslash counts only before a quotation mark and at the end."""
    text = str(value)
    if not isinstance(value, str) or (_BARE.fullmatch(text) and not _OTHER_KINDS.fullmatch(text)):
        return text
    if "${" in text:
        raise InputError(
            f"{text!r}: verl's configuration takes ${{ for one of its variables; rename the folder or file"
        )
    text = _QUOTE.sub(r"\1\1\\'", text)
    last = len(text) - len(text.rstrip("\\"))
    return "'" + text + "\\" * last + "'"

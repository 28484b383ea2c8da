"""What every dataclass of settings needs, wherever it stands: the help of a field, and checks of its value."""

from __future__ import annotations

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from innerloop.errors import InputError
from innerloop.nearest import meant


def about(text: str, *, free: bool = False, extent: bool = False, later: bool = False) -> dict[str, Any]:
    """Metadata of a settings field: its help, and whether a run may go on with another value.

    ``free``: it does not affect results. ``extent``: it says how much is done and changes nothing of what is there.
    ``later``: run folders are older than it, so it is recorded only where it is not as by default; then an older run
    goes on, and finds the same folder.
    """
    return {"help": text, "free": free, "extent": extent, "later": later}


def at_least(name: str, value: float | None, least: int) -> None:
    """``InputError`` for a setting below its least value."""
    if value is not None and value < least:
        raise InputError(f"--{name.replace('_', '-')} {value}: must be {least} or more")


def check_choices(settings: Any) -> None:
    """`InputError` for a text that is none of its choices. The command line has checked that; Python has not."""
    for name, hint in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = get_args(hint) if get_origin(hint) in (tuple, UnionType, Union) else (hint,)
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        for given in value if isinstance(value, tuple) else (value,):
            if choices and isinstance(given, str) and given not in choices:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {given}: {meant(given, choices)}it must be one of {', '.join(choices)}")

"""A recipe file of any content, for any command: its settings, or a refusal in one line."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from innerloop import cli
from innerloop.verbs import show

INSTRUMENT = ("innerloop.recipe_files", "innerloop.input_files", "innerloop.cli", "innerloop.settings")
_COMMANDS = [command for command in cli.COMMANDS if command.words[0] in ("probe", "rollout", "eval", "train", "update")]
_load = cli._Command.load


def _nothing_done(command: Any) -> tuple[Any, Any]:
    """A verb that takes its settings and does nothing."""

    def verb(settings: Any, *, command: Any) -> Any:  # noqa: ARG001  # as all verbs
        return settings

    return verb, _load(command)[1]


def one(data: bytes) -> None:
    """The command line ends well, or with the one line of unusable input; never with another exception."""
    command = _COMMANDS[(data[0] if data else 0) % len(_COMMANDS)]
    out, err = io.StringIO(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(cli._Command, "load", _nothing_done),
        mock.patch.object(show, "show"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        file = Path(folder) / "recipe.toml"
        file.write_bytes(data[1:])
        status = cli.main([*command.words, "--recipe", str(file)])
    said = err.getvalue()
    assert status in (cli.OK, cli.UNUSABLE), said
    if status == cli.UNUSABLE:
        assert said.count("\n") == 1, said
        assert len(said) < 6000, said

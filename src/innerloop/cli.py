"""The command line: one command per verb, made from the verb's settings.

Results go to standard output, everything else to standard error. Exit 0 done, 1 failed, 2 unusable input or arguments
(one line, no traceback without ``--debug``), 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter

from innerloop import recipe_files, waiting
from innerloop.errors import InputError
from innerloop.nearest import meant
from innerloop.printable import MESSAGE, one_line, shell_words
from innerloop.processes import is_main, rank
from innerloop.terminal import Console, guarded

OK, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class _Command:
    """What --help says of a verb. The verb itself is imported for its own command line only."""

    verb: str
    text: str
    example: str

    def load(self) -> tuple[Callable[..., Any], Any]:
        """The verb's function and its settings."""
        name = self.words[-1]
        module = import_module(f"innerloop.verbs.{'.'.join(self.words)}")
        return getattr(module, name), getattr(module, f"{name.capitalize()}Settings")

    @property
    def words(self) -> tuple[str, ...]:
        """The verb, and for ``train`` the recipe."""
        return tuple(self.verb.split())


COMMANDS = (
    _Command("demo", "See a small model get closer to the answer, token by token; needs nothing else.", "demo"),
    _Command(
        "rollout",
        "Sample trajectories from a model and judge their answers.",
        "rollout --questions gym:gsm_symbolic?size=20 --samples 4 --out R1",
    ),
    _Command(
        "probe",
        "Measure the answer loss along trajectories.",
        "probe --questions q.jsonl --trajectories solutions --controls shuffled --out R1",
    ),
    _Command(
        "update",
        "Turn trajectories into weights, and compare them with the gradient.",
        "update --questions q.jsonl --controls shuffled --positions every:8 --out R1",
    ),
    _Command(
        "landscape",
        "Measure the answer loss on grids of weights around the model's own, and along trajectories' paths.",
        "landscape --questions q.jsonl --plane path --plane path-line --points 25 --out R1",
    ),
    _Command(
        "eval",
        "Score samples with intervals, or sample and score; compare models.",
        "eval --trajectories samples.jsonl --k 1,8",
    ),
    _Command(
        "select",
        "Choose the trajectories to train on: so many of each question, by gain, diversity, variance of reward, ….",
        "select --model smollm2 --trajectories R1 --support 4 --by gain-per-token --out R2",
    ),
    _Command(
        "train init",
        "Make a fresh model, with a tokenizer of characters or bytes.",
        "train init --shape tiny --out M0",
    ),
    _Command(
        "train sft",
        "Train a model on trajectories, or on answers alone.",
        "train sft --model M0 --questions gym:gcd?size=2000 --trajectories oracle --out R1",
    ),
    _Command(
        "train dpo",
        "Train a model to prefer right trajectories to wrong ones of the same question.",
        "train dpo --model R1 --trajectories R2 --out R3",
    ),
    _Command(
        "train grpo",
        "Train a model on its own rollouts by their reward.",
        "train grpo --model R1 --questions gym:gcd?size=500 --group 8 --out R2",
    ),
    _Command(
        "train meta",
        "Meta-train a model over families of questions.",
        "train meta --model M0 --questions gym:gcd?size=200 gym:lcm?size=200 --algorithm maml --out R3",
    ),
    _Command("report", "Write one self-contained page from a run folder.", "report R1"),
)


_TRAIN = "Train a model: the outer loop, one recipe a command."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default the process's own) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    began = waiting.look()
    debug = "--debug" in arguments
    _quieten_libraries(debug)
    with guarded(), _logs_on_stderr(debug):
        try:
            _app(arguments, began)(arguments, exit_on_error=False, print_error=False)
        except (InputError, cyclopts.CycloptsError) as error:
            said = _about_arguments(error, arguments) if isinstance(error, cyclopts.CycloptsError) else str(error)
            return _fail(UNUSABLE, said, debug)
        except KeyboardInterrupt:
            again = shell_words(["innerloop", *arguments])
            return _fail(INTERRUPTED, f"interrupted, what was finished is kept; go on with: {again}", debug=False)
        except BrokenPipeError:  # the reader of our output left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:  # noqa: BLE001  # the last line of defence: a user is never left with a traceback
            hint = "" if debug else " (--debug shows where)"
            return _fail(FAILED, f"{type(error).__name__}: {error}{hint}", debug)
    return OK


def _app(arguments: Sequence[str], began: waiting.Look) -> App:
    app = App(
        name="innerloop",
        help="Shows a language model learning inside its own chain of thought.",
        version=_version,
        default_parameter=Parameter(negative=(), consume_multiple=True, show_default=_show_default),
        help_format="plaintext",
        help_epilogue="`innerloop COMMAND --help` lists a command's options. Start with: innerloop demo",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        config=recipe_files.RecipeFile(),
        console=Console(),
    )
    recipes = App(name="train", help=_TRAIN, help_format="plaintext", help_epilogue="Start with: innerloop train init")
    app.command(recipes)
    for command in COMMANDS:
        meant = tuple(arguments[: len(command.words)]) == command.words
        function = _function(command, arguments, began) if meant else _nothing
        epilogue = f"Example: innerloop {command.example}"
        parent = recipes if len(command.words) > 1 else app
        parent.command(function, name=command.words[-1], help=command.text, help_epilogue=epilogue)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("innerloop")


def _nothing() -> None:
    """Stands for a verb that this command line does not call."""


def _function(command: _Command, arguments: Sequence[str], began: waiting.Look) -> Callable[..., None]:
    """A function whose parameters are the fields of the verb's settings, as cyclopts wants it."""
    from innerloop.verbs.shared import jsonable
    from innerloop.verbs.show import show

    verb, settings_type = command.load()

    def run(settings: Any, *, recipe: Path | None = None) -> None:  # noqa: ARG001  # it has been read by now
        waiting.settle(began)
        result = verb(settings, command=["innerloop", *arguments])
        if not is_main():
            return
        if settings.json:
            sys.stdout.write(json.dumps(jsonable(result), allow_nan=False) + "\n")
        else:
            show(result)
        sys.stdout.flush()

    if all(entry.default is not MISSING for entry in fields(settings_type)):  # then cyclopts wants a default of it all
        run.__defaults__ = (settings_type(),)
    run.__annotations__ = {
        "settings": Annotated[settings_type, Parameter(name="*")],
        "recipe": Annotated[Path | None, Parameter(name=recipe_files.OPTION, help=recipe_files.HELP)],
        "return": None,
    }
    return run


def _show_default(value: Any) -> str | None:
    """How --help shows a default; nothing for "off" and "none given"."""
    if value is None or value is False or value == ():
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _about_arguments(error: cyclopts.CycloptsError, arguments: Sequence[str]) -> str:
    """One line on arguments that make no sense, with the nearest that would."""
    known = list(dict.fromkeys(command.words[0] for command in COMMANDS))
    name = arguments[0] if arguments and arguments[0] in known else None
    if name == "train":
        recipes = [command.words[1] for command in COMMANDS if len(command.words) > 1]
        if arguments[1:2] and arguments[1] not in recipes:
            return _unknown("recipe", arguments[1], recipes, "see innerloop train --help")
        name = " ".join(arguments[:2])
    help_hint = f"see innerloop {name} --help" if name else "see innerloop --help"
    if isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        stray = error.unused_tokens[0]
        return f"unexpected argument {stray!r}; {help_hint}"
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        option = error.argument.name
        given = any(word.split("=")[0] == option for word in arguments)
        return f"{option} needs a value; {help_hint}" if given else f"{option} is missing; {help_hint}"
    if isinstance(error, cyclopts.UnknownCommandError) and arguments and name is None:
        return _unknown("command", arguments[0], known, help_hint)
    return f"{str(error).rstrip('.')}; {help_hint}"


def _unknown(kind: str, word: str, known: Sequence[str], help_hint: str) -> str:
    hint = meant(word, [*known, "--help", "--version"])
    return f"unknown {kind} {word!r}: {hint}There are {', '.join(known)}; {help_hint}"


def _fail(status: int, said: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    whose = "" if is_main() else f"process {rank()}: "
    sys.stderr.write(f"innerloop: {whose}{one_line(said, None if status == INTERRUPTED else MESSAGE)}\n")
    return status


class _ToStderr(logging.Handler):
    """Lines on whatever standard error is now, so that a progress bar can put them above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        sys.stderr.write(f"innerloop: {level}{one_line(record.getMessage(), MESSAGE)}\n")


@contextmanager
def _logs_on_stderr(debug: bool) -> Iterator[None]:
    """The library's log lines on standard error while a command runs; Python's warnings only where asked for."""
    handler = _ToStderr()
    ours, warnings = logging.getLogger("innerloop"), logging.getLogger("py.warnings")
    before = ours.level, ours.propagate, warnings.propagate
    ours.setLevel(logging.DEBUG if debug else logging.INFO if is_main() else logging.ERROR)
    ours.addHandler(handler)
    ours.propagate = False
    warnings.propagate = False
    warnings.addHandler(handler if debug else (null := logging.NullHandler()))
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        ours.removeHandler(handler)
        warnings.removeHandler(handler if debug else null)
        ours.setLevel(before[0])
        ours.propagate, warnings.propagate = before[1:]


def _quieten_libraries(debug: bool) -> None:
    """No progress bars and advice of libraries between our own lines; their errors stay. Read at their import."""
    if debug:
        return
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "DATASETS_VERBOSITY": "error",
        "HF_HUB_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",  # it warns at every fork of a verifier's worker otherwise
    }.items():
        os.environ.setdefault(name, value)

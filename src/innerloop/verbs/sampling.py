"""``--trajectories sample?n=64&temperature=0.7&top_k=50``: a training that samples its trajectories first.

With the wrong ones left out that is the rejection sampling of RaML appendix C.2. The parameters are the options of
``rollout``, ``n`` its number of samples; what is not given is as for the training. The samples stand in the training's
own run folder, so that a restart draws only those that are missing; once the training has begun they stay as they are.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from innerloop.errors import InputError
from innerloop.nearest import nearest
from innerloop.processes import world
from innerloop.rollout.engines import ENGINES, TAKERS
from innerloop.rollout.given import is_sample
from innerloop.store import Run
from innerloop.verbs.shared import InputSettings, out_folder

if TYPE_CHECKING:
    from innerloop.verbs.rollout import RolloutSettings

_OURS = ("questions", "limit", "draw", "clean", "seed", "out", "json", "debug")  # options of the training alone
_SHORT = {"n": "samples"}


def with_samples(settings: Any, recipe: str) -> tuple[str, ...]:
    """The sources of trajectories of ``train RECIPE``, a run folder in the place of ``sample?…``, filled by now."""
    sources: tuple[str, ...] = settings.trajectories
    asked = [source for source in sources if is_sample(source)]
    if not asked:
        return sources
    if len(asked) > 1:
        raise InputError(f"--trajectories: {' and '.join(asked)}; a training samples once, use rollout for more")
    out = out_folder(f"train-{recipe}", settings)
    if not _begun(out, recipe):
        if settings.dry_run or getattr(settings, "export", None) or world() > 1:
            raise InputError(
                f"--trajectories {asked[0]}: samples first, which --dry-run, --export and several processes do not do; "
                "sample with innerloop rollout, and give its folder"
            )
        from innerloop.verbs.rollout import rollout

        rollout(rollout_settings(asked[0], settings, out))
    return tuple(str(out) if is_sample(source) else source for source in sources)


def _begun(out: Path, recipe: str) -> bool:
    """Whether the training has made its rows."""
    if not (out / "run.json").is_file():
        return False
    notes = Run.open(out).manifest["stages"].get(f"train {recipe}", {}).get("notes", {})
    return notes.get("rows") is not None


def rollout_settings(source: str, settings: Any, out: Path) -> RolloutSettings:
    """What ``sample?…`` asks of ``rollout``. `InputError` names the parameter that is wrong."""
    import cyclopts

    from innerloop.verbs.rollout import RolloutSettings

    asked_of = [settings.questions] if isinstance(settings.questions, str) else list(settings.questions or ())
    if not asked_of:
        raise InputError(f"--questions is missing: {source} needs questions to put to the model")
    if len(asked_of) > 1:
        raise InputError(
            f"--trajectories {source}: samples answers to one source of questions; sample each with innerloop rollout, "
            "and give its folders"
        )
    fields = [entry.name for entry in dataclasses.fields(RolloutSettings) if entry.name not in _OURS]
    given: dict[str, str] = {}
    for name, equals, value in (part.partition("=") for part in source.partition("?")[2].split("&") if part):
        if name not in (*fields, *_SHORT):
            known = (*fields, *_SHORT)
            raise InputError(f"{source}: no parameter '{name}' (rollout --help lists them){nearest(name, known)}")
        if not (equals and value):
            raise InputError(f"{source}: {name} has no value; write e.g. sample?n=64&temperature=0.7&top_k=50")
        given[_SHORT.get(name, name)] = value
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    def take(asked: Any) -> Any:
        return asked

    take.__annotations__ = {"asked": Annotated[RolloutSettings, cyclopts.Parameter(name="*")]}
    app = cyclopts.App(name=source, result_action="return_value", help_flags=(), version_flags=())
    app.default(take)
    try:
        asked: RolloutSettings = app([f"--questions={asked_of[0]}", *words], exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise InputError(f"{source}: {' '.join(str(error).split())}") from error
    engine = asked.stands_for()["engine"]
    common = {entry.name for entry in dataclasses.fields(InputSettings)} | {"debug"}
    takes = {name for name in common if engine == "auto" or engine in TAKERS.get(name, ENGINES)} - {"questions"}
    return dataclasses.replace(asked, **{name: getattr(settings, name) for name in takes - set(given)}, out=out)

"""What was run: the page's header, read off the run's manifest."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePath
from typing import Any

from innerloop.evaluate.exactness import exactness
from innerloop.printable import shell_words
from innerloop.report.view import View

_WARNINGS = {
    "running": "still running, or its process was killed",
    "interrupted": "interrupted",
    "failed": "ended with an error",
}


def facts(view: View) -> dict[str, Any]:
    """Page data: ``title``, ``short`` (label and value pairs), ``warnings``, ``stages`` in full."""
    stages: dict[str, dict[str, Any]] = view.manifest.get("stages", {})
    model = probed_model(view)
    questions = _setting(stages, "questions")
    return {
        "title": _scored(view, model)
        or " on ".join(filter(None, (_name(model), questions)))
        or view.path.resolve().name,
        "short": [(label, value) for label, value in _short(view, model, questions) if value],
        "warnings": [
            f"{verb}: {_WARNINGS[entry['status']]}. The page shows what was finished; "
            "the same command again goes on from there."
            for verb, entry in stages.items()
            if entry.get("status") in _WARNINGS
        ],
        "stages": [_stage(verb, entry) for verb, entry in stages.items()],
    }


def probed_model(view: View) -> dict[str, Any]:
    """The description of the model whose losses are shown (or that made the trajectories); empty where unknown."""
    stages = view.manifest.get("stages", {})
    entries = [stages.get("probe", {}), *stages.values()]
    return next((entry["model"] for entry in entries if entry.get("model")), {})


def _short(view: View, model: dict[str, Any], questions: str | None) -> list[tuple[str, str | None]]:
    stages = view.manifest.get("stages", {})
    finished = [entry.get("finished") or entry.get("started") for entry in stages.values()]
    exact = exactness(entry.curve for entry in view.entries if entry.curve)
    seeds = dict.fromkeys(str(entry["seed"]) for entry in stages.values() if entry.get("seed") is not None)
    return [
        ("Model", _model_line(model)),
        ("Questions", f"{_questions(view):,}" + (f" from {questions}" if questions else "")),
        ("Trajectories", _trajectories(view)),
        ("Seed", ", ".join(seeds)),
        ("Losses", str(exact) if exact.compared else None),
        ("Status", ", ".join(f"{verb} {entry.get('status', '')}" for verb, entry in stages.items())),
        ("Date", _date(max(filter(None, finished), default=None))),
    ]


def _trajectories(view: View) -> str | None:
    if view.trainings and not view.entries:
        return None
    controls = sum(entry.group.source.is_control for entry in view.entries)
    return f"{len(view.entries) - controls:,}" + (f" and {controls:,} controls" if controls else "")


def _model_line(model: dict[str, Any]) -> str:
    parts = [_name(model)]
    if model.get("parameters"):
        parts.append(f"{_count(model['parameters'])} parameters")
    parts += [str(model[field]) for field in ("dtype",) if model.get(field)]
    if model.get("fingerprint"):
        parts.append(f"weights {str(model['fingerprint'])[:8]}")
    return " · ".join(filter(None, parts))


def _name(model: dict[str, Any]) -> str:
    """A folder's or file's own name; a hub id and a plain name as they are."""
    return _file(str(model.get("name") or ""))


def _file(name: str) -> str:
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _count(number: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _date(moment: str | None) -> str | None:
    try:
        return datetime.fromisoformat(moment).strftime("%-d %B %Y, %H:%M %Z") if moment else None
    except ValueError:
        return moment


def _setting(stages: dict[str, dict[str, Any]], name: str) -> str | None:
    values = (entry.get("configuration", {}).get(name) for entry in stages.values())
    found = next((value for value in values if value), None)
    named = [found] if isinstance(found, str) else found
    return ", ".join(_file(str(value)) for value in named) if named else None


def _questions(view: View) -> int:
    """Those in the run; where only scores were kept, those that were scored."""
    return len(view.questions) or len({score.question_id for score in view.scores})


def _scored(view: View, model: dict[str, Any]) -> str:
    """The series that were scored, where no model was at work here."""
    if model:
        return ""
    names = list(dict.fromkeys(score.series for score in view.scores))
    return " against ".join(names) if len(names) < 3 else f"{len(names)} series of samples"


def _stage(verb: str, entry: dict[str, Any]) -> dict[str, Any]:
    """One verb in full: its command line, and tables of everything else that was recorded."""
    command = entry.get("command")
    return {
        "verb": verb,
        "command": shell_words(map(str, command)) if command else None,
        "times": [(label, _date(entry.get(label))) for label in ("started", "finished")],
        "tables": [
            (title, [(str(name), _text(value)) for name, value in (entry.get(field) or {}).items()])
            for title, field in (("Settings", "configuration"), ("Model", "model"), ("Versions", "versions"))
            if entry.get(field)
        ],
    }


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("\n", "↵")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "–"
    return "–" if value is None else str(value)

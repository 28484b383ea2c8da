"""Every number of a run as ``results.json``, and as a table for the documentation, ``results.md``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TITLES = {
    "tests": "Differences from the definition in float32 on the CPU, tiny random models",
    "probe": "Probe",
    "update": "Update",
    "landscape": "Landscape",
    "training": "Training",
    "machine": "Machine",
}
Row = Mapping[str, Any]


def read(file: Path) -> list[dict[str, Any]]:
    """The numbers so far; a line that was cut off is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def write(folder: Path, rows: Sequence[Row], parts: Sequence[Row]) -> None:
    """Both files, anew after each part."""
    notes = {row["note"]: row["value"] for row in rows if "note" in row}
    numbers = [row for row in rows if "note" not in row]
    whole = {"machine": notes, "parts": list(parts), "numbers": numbers}
    (folder / "results.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(notes, parts, numbers), encoding="utf-8")


def markdown(notes: Row, parts: Sequence[Row], numbers: Sequence[Row]) -> str:
    """The machine, how each part ended, and a table per part."""
    lines = ["# Measured on " + str(notes.get("card", "a CPU" if notes else "an unknown machine")), ""]
    lines += [", ".join(f"{name} {value}" for name, value in notes.items()), ""]
    lines += _table(("part", "ended", "seconds"), ((p["name"], p["ended"], f"{p['seconds']:.0f}") for p in parts))
    for part, title in TITLES.items():
        own = [row for row in numbers if row["part"] == part]
        if own:
            lines += ["", f"## {title}", "", *(_by_architecture(own) if part == "tests" else _by_place(own))]
    return "\n".join(lines) + "\n"


def _by_place(rows: Sequence[Row]) -> list[str]:
    """A line for each thing measured, a column for each of its numbers."""
    columns = list(dict.fromkeys(_named(row) for row in rows))
    places: dict[str, dict[str, float]] = {}
    for row in rows:
        where = ", ".join(_place(name, value) for name, value in row["where"].items()) or "–"
        places.setdefault(where, {})[_named(row)] = row["value"]
    body = ([where, *(_short(found.get(name)) for name in columns)] for where, found in places.items())
    return _table(("of", *columns), body)


def _by_architecture(rows: Sequence[Row]) -> list[str]:
    """A line for each check, with the largest number over the architectures and where it was."""
    checks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        where = dict(row["where"])
        where.pop("architecture", None)
        checks.setdefault((_named(row), ", ".join(map(str, where.values()))), []).append(row)
    body = []
    for (name, where), own in checks.items():
        worst = max(own, key=lambda row: row["value"])
        values = sorted(row["value"] for row in own)
        place = worst["where"].get("architecture", "–")
        body.append([name, where, str(len(own)), _short(values[len(values) // 2]), _short(values[-1]), place])
    return _table(("check", "of", "architectures", "median", "largest", "where"), body)


def _named(row: Row) -> str:
    return str(row["name"]) if row["unit"] == "1" else f"{row['name']}, {row['unit']}"


def _place(name: str, value: Any) -> str:
    return f"{value:,} {name}" if isinstance(value, int) else str(value)


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
        *("| " + " | ".join(row) + " |" for row in body),
    ]

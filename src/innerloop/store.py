"""A run folder: its manifest, its atomic Parquet shards, and how an interrupted run goes on.

    RUN/run.json                 what was run, with what, and how it ended
    RUN/STAGE/00000.parquet      finished units of work, several to a shard, never half a unit
    RUN/.lock                    held while a process writes here

A unit of work has a stable id (a question's, a trajectory's). A shard appears whole or not at all, so a killed process
loses at most the units since the last shard, and the next start does only what is missing. Where a unit stands in
two shards, the later shard counts. Many small shards side by side become one, so that a run of days is read as fast as
one of minutes; a shard is deleted only when all of its units stand in a later one. A shard that can no longer be read
is named in a warning, left out, and set aside as ``*.corrupt`` once its units are done again.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from innerloop import manifest as manifests
from innerloop import shards
from innerloop.atomic import (
    cannot_write,
    make_folder,
    names_in,
    opened_folder,
    remove_file,
    rename,
    sync_folder,
)
from innerloop.atomic import write_file as write_file  # who writes into a run folder finds it here
from innerloop.errors import InputError, first_line
from innerloop.lock import locked
from innerloop.manifest import FORMAT, Manifest
from innerloop.schema import Curve, Landscape, Question, Score, Step, Trajectory, Update
from innerloop.shards import KINDS
from innerloop.shards import STAGES as STAGES

log = logging.getLogger("innerloop.store")

_PACKAGES = ("innerloop", "torch", "transformers", "tokenizers", "datasets", "math-verify", "reasoning-gym")
_MOST_SMALL = 64  # shards; so many small ones at the end of a stage become one
_SMALL = 8 << 20  # bytes of a shard that is no longer merged
_MOST_MERGED = 512 << 20  # bytes of the rows that are merged at once; Arrow's texts of one column end at 2 GiB
_SHARD = re.compile(r"([0-9]{1,12})\.parquet", re.ASCII)


class Run:
    """One run folder. Make it with ``Run.open`` (to read) or ``Run.start`` (to write)."""

    def __init__(self, path: Path, manifest: Manifest, verb: str | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._verb = verb
        self._corrupt: set[Path] = set()
        self._writing = threading.Lock()
        self._fresh = verb is not None and verb not in manifest["stages"]  # nothing of this verb is in the folder yet

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run folder, for reading. Raises ``InputError`` where there is none."""
        path = Path(path)
        if not manifests.there(path):
            what = "has no run.json" if os.path.exists(path) else "does not exist"  # noqa: PTH110  # raises for no name
            raise InputError(f"{path}: not a run folder ({what}); give the folder that an innerloop command wrote")
        return cls(path, manifests.read(path))

    @classmethod
    @contextmanager
    def start(
        cls,
        path: str | Path,
        verb: str,
        configuration: dict[str, Any],
        *,
        command: Sequence[str] | None = None,
        model: dict[str, Any] | None = None,
        free: Collection[str] = (),
        extent: Collection[str] = (),
    ) -> Iterator[Run]:
        """Create the folder or go on with it, hold it while the block runs, and record how the block ended.

        ``configuration`` is JSON-able; its fields named in ``free`` do not affect results and may differ between
        starts. Those in ``extent`` say how much is done, and may differ too: what there is stays as it is, and the
        manifest lists the changes. Raises ``InputError`` when another process writes here, when the folder belongs to
        something else, or when ``verb`` ran here with another configuration. A first start that ends with an error
        before anything was written leaves no trace, so that a slip in the arguments does not occupy the folder.
        """
        path = Path(path)
        configuration = json.loads(json.dumps(configuration))  # tuples become lists, as they will when read back
        make_folder(path)
        with locked(path):
            run = cls(path, _manifest_to_go_on_with(path), verb)
            _refuse_another(path, verb, run.manifest["stages"].get(verb), configuration, {*free, *extent})
            run._clean()
            run._begin(configuration, list(command) if command is not None else None, extent)
            if model is not None:
                run.record_model(model)
            try:
                yield run
            except BaseException as error:
                if run._fresh:
                    run._undo()
                    raise
                run._finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", quietly=True)
                raise
            run._fresh = False
            run._finish("complete")

    def record_model(self, description: dict[str, Any]) -> None:
        """Note which model does this verb's work; ``InputError`` when its weights are not those of the last start."""
        entry = self._entry()
        before = entry.get("model") or {}
        for field in ("fingerprint", "dtype"):
            old, new = before.get(field), description.get(field)
            if old is not None and new is not None and old != new:
                raise InputError(
                    f"{self.path}: made with another model, {field}: {old} → {new}; choose another folder with --out"
                )
        entry["model"] = json.loads(json.dumps(description))
        self._save()

    def note(self, name: str, value: Any) -> None:
        """Keep a JSON-able finding about this verb's work in the manifest, over restarts too."""
        notes = self._entry().setdefault("notes", {})
        if notes.get(name) != value:
            notes[name] = json.loads(json.dumps(value))
            self._save()

    def noted(self, name: str) -> Any:
        """What an earlier ``note`` of this verb said, or None."""
        return self._entry().get("notes", {}).get(name)

    def read(self, stage: str) -> pa.Table:
        """Every unit of a stage once, in the order written; an empty table when there is none."""
        while True:
            try:
                tables = [self._read_shard(shard) for shard in self._shards(stage)]
            except FileNotFoundError:  # a process that writes here has just merged it with others
                continue
            return shards.each_once(stage, [table for table in tables if table is not None])

    def done(self, stage: str, column: str | None = None) -> set[str]:
        """The values of ``column`` (by default the unit ids) in the shards that can be read."""
        return set(pc.unique(self.read(stage)[column or KINDS[stage][1]]).to_pylist())

    def write(self, stage: str, table: pa.Table) -> Path:
        """Add one shard of whole units. ``InputError`` on a full disk or a read-only folder, nothing half-written."""
        with self._writing:
            shard = self._add(stage, table)
            self._merge(stage)
        return shard

    def replace(self, stage: str, table: pa.Table) -> None:
        """Write a stage anew: for what is computed from others, where rows of an earlier start would be stale."""
        with self._writing:
            before = self._shards(stage)
            self._add(stage, table)
            self._remove(before)

    def _add(self, stage: str, table: pa.Table) -> Path:
        folder = self.path / stage
        make_folder(folder, root=self.path)
        try:
            for shard in [shard for shard in self._corrupt if shard.parent == folder]:
                rename(shard, f"{shard.name}.corrupt", self.path)
                self._corrupt.remove(shard)
            names = names_in(folder, self.path)
        except OSError as error:
            cannot_write(folder, error)
        numbers = [int(match[1]) for name in names if (match := _SHARD.match(name))]
        shard = folder / f"{max(numbers, default=-1) + 1:05d}.parquet"
        write_file(shard, shards.packed(stage, table), root=self.path)
        self._fresh = False
        return shard

    def _merge(self, stage: str) -> None:
        """Make one shard of the small ones at the end of a stage, once they are many.

        The new one takes the place and name of the last of them, in one step. It holds all units of the others, so they
        may go now, or at a later merge if the process is killed before: until then these stand there twice and count
        once.
        """
        small: list[Path] = []
        with opened_folder(self.path / stage, self.path) as folder:
            for shard in reversed(self._shards(stage)):
                if os.stat(shard.name, dir_fd=folder, follow_symlinks=False).st_size >= _SMALL:
                    break
                small.insert(0, shard)
        if len(small) < _MOST_SMALL:
            return
        tables: list[pa.Table] = []
        for shard in reversed(small):  # what cannot be read, or was written by another version, stays as it is
            table = self._read_shard(shard, whole=True)
            if table is None or sum(entry.nbytes for entry in (table, *tables)) > _MOST_MERGED:
                break
            tables.insert(0, table)
        small = small[len(small) - len(tables) :]
        if len(small) < 2:
            return
        try:
            write_file(small[-1], shards.packed(stage, shards.each_once(stage, tables)), root=self.path)
        except InputError as error:  # a full disk: everything is there as it was
            log.debug("%s: shards are not merged: %s", self.path / stage, error)
            return
        self._remove(small[:-1])

    def _remove(self, shards: Sequence[Path]) -> None:
        """Delete shards that a later one stands for, once that one would outlive a loss of power."""
        with suppress(OSError):  # what stays counts for nothing beside the later one
            for folder in {shard.parent for shard in shards}:
                sync_folder(folder)
            for shard in shards:
                remove_file(shard, self.path)

    def questions(self) -> list[Question]:
        """The questions of this run, each once."""
        return list({record.id: record for record in Question.from_table(self.read("questions"))}.values())

    def trajectories(self) -> list[Trajectory]:
        """The trajectories of this run, given, sampled and controls, each once."""
        return list({record.id: record for record in Trajectory.from_table(self.read("trajectories"))}.values())

    def curves(self) -> list[Curve]:
        """The answer-loss curves of this run, one per probed trajectory."""
        return Curve.from_table(self.read("curves"))

    def updates(self) -> list[Update]:
        """The inner-loop updates of this run, one per trajectory and stored position, positions rising."""
        found = {(record.id, record.position): record for record in Update.from_table(self.read("updates"))}
        first = {id_: i for i, (id_, _) in reversed(list(enumerate(found)))}
        return sorted(found.values(), key=lambda record: (first[record.id], record.position))

    def landscapes(self) -> list[Landscape]:
        """The landscapes of this run, each once."""
        return list({record.id: record for record in Landscape.from_table(self.read("landscapes"))}.values())

    def scores(self) -> list[Score]:
        """The scores of this run, one per series and question."""
        return list({record.id: record for record in Score.from_table(self.read("scores"))}.values())

    def steps(self) -> list[Step]:
        """The steps of this run's training and the looks at held-out questions, steps rising."""
        return sorted(Step.from_table(self.read("steps")), key=lambda record: record.step)

    def _shards(self, stage: str) -> list[Path]:
        folder = self.path / stage
        names = [name for name in names_in(folder, self.path) if _SHARD.fullmatch(name)]
        return sorted((folder / name for name in names), key=lambda shard: int(shard.stem))

    def _read_shard(self, shard: Path, *, whole: bool = False) -> pa.Table | None:
        """The rows, or None for a corrupt shard; with ``whole`` also for one with columns that are not known here."""
        try:
            return shards.read(shard, self.path, whole=whole)
        except (FileNotFoundError, InputError):  # links and pipes are refused, not left out
            raise
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            if shard not in self._corrupt:
                self._corrupt.add(shard)
                reason = first_line(error, 200)
                log.warning("%s is corrupt and left out (%s); the same command again redoes its units", shard, reason)
            return None

    def _clean(self) -> None:
        """Remove what a killed process left half-written; we hold the lock, so nobody is writing it."""
        for folder in (self.path, *(self.path / stage for stage in STAGES)):
            for name in names_in(folder, self.path):
                if name.startswith(".") and name.endswith(".tmp"):
                    remove_file(folder / name, self.path)

    def _entry(self) -> dict[str, Any]:
        assert self._verb is not None, "a run opened for reading has no verb of its own"
        return self.manifest["stages"][self._verb]

    def _begin(self, configuration: dict[str, Any], command: list[str] | None, extent: Collection[str]) -> None:
        assert self._verb is not None
        before = self.manifest["stages"].get(self._verb, {})
        changes = before.get("changes", [])
        old = before.get("configuration", {})
        for field in (name for name in configuration if name in extent and name in old):
            if old[field] != configuration[field]:
                log.info("%s goes on with %s %s → %s", self.path, field, _show(old, field), _show(configuration, field))
                changes = [*changes, {"time": _now(), "field": field, "from": old[field], "to": configuration[field]}]
        versions = _versions()
        changed = [
            f"{name} {old} → {versions.get(name)}"
            for name, old in before.get("versions", {}).items()
            if old != versions.get(name)
        ]
        if changed:
            log.warning("%s goes on with other versions than it began with: %s", self.path, ", ".join(changed))
        self.manifest["stages"][self._verb] = {
            "command": command,
            "configuration": configuration,
            "changes": changes,
            "versions": versions,
            "seed": configuration.get("seed"),
            "model": before.get("model"),
            "notes": before.get("notes", {}),
            "status": "running",
            "started": before.get("started") or _now(),
            "finished": None,
        }
        self._save()

    def _finish(self, status: str, *, quietly: bool = False) -> None:
        self._entry().update(status=status, finished=_now())
        try:
            self._save()
        except InputError as error:
            if not quietly:
                raise
            log.warning("%s", error)  # the block's own exception is on its way and says more

    def _undo(self) -> None:
        """Forget a start that wrote nothing; remove what is left of a folder that holds nothing else."""
        with suppress(OSError, InputError):  # the block's own exception is on its way
            del self.manifest["stages"][self._verb]
            if self.manifest["stages"]:
                self._save()
                return
            remove_file(self.path / manifests.NAME, self.path)
            if names_in(self.path, self.path) == [".lock"]:
                remove_file(self.path / ".lock", self.path)
                self.path.rmdir()

    def _save(self) -> None:
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n"
        write_file(self.path / manifests.NAME, text.encode())


class Follower(Run):
    """A run that another process writes: everything can be read, and what is written here goes nowhere."""

    @classmethod
    def follow(cls, path: Path, verb: str) -> Follower:
        """The run that the first process of a training has just begun or gone on with."""
        return cls(path, manifests.read(path), verb)

    def write(self, stage: str, table: pa.Table) -> Path:  # noqa: ARG002
        """Nothing: the first process writes."""
        return self.path / stage

    def replace(self, stage: str, table: pa.Table) -> None:
        """Nothing: the first process writes."""

    def _save(self) -> None:
        """Nothing: notes are for this process alone."""


def _manifest_to_go_on_with(path: Path) -> Manifest:
    if manifests.there(path):
        return manifests.read(path)
    foreign = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if foreign:
        raise InputError(f"{path}: holds {foreign[0]} but no run.json, so it is no run folder; choose another --out")
    return {"format": FORMAT, "stages": {}}


def _refuse_another(
    path: Path, verb: str, before: dict[str, Any] | None, configuration: dict[str, Any], free: Collection[str]
) -> None:
    """``InputError`` that lists what differs when ``verb`` ran here with another configuration."""
    if before is None:
        return
    old = before.get("configuration", {})
    differing = [
        f"{field}: {_show(old, field)} → {_show(configuration, field)}"
        for field in dict.fromkeys((*old, *configuration))
        if field not in free and (field not in old or field not in configuration or old[field] != configuration[field])
    ]
    if differing:
        raise InputError(
            f"{path}: holds a {verb} run with another configuration ({'; '.join(differing)}); choose another --out"
        )


def _show(configuration: dict[str, Any], field: str) -> str:
    return json.dumps(configuration[field], ensure_ascii=False) if field in configuration else "(absent)"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""A run folder: its manifest, its atomic Parquet shards, and how an interrupted run goes on.

    RUN/run.json                 what was run, with what, and how it ended
    RUN/STAGE/00000.parquet      finished units of work, several to a shard, never half a unit
    RUN/.lock                    held while a process writes here

A unit of work has a stable id (a question's, a trajectory's). A shard appears whole or not at all, so a killed process
loses at most the units since the last shard, and the next start does only what is missing. Where a unit stands in
two shards, the later shard counts. Nothing that was written is ever deleted: a shard that can no longer be read is
named in a warning, left out, and set aside as ``*.corrupt`` once its units are done again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from innerloop.errors import InputError
from innerloop.schema import Curve, Landscape, Question, Score, Step, Trajectory, Update

log = logging.getLogger("innerloop.store")

FORMAT = 1  # of run.json and the shards; raise it when an older reader would misread a newer run
_KINDS: dict[str, tuple[pa.Schema, str]] = {  # stage: the schema of its rows, the column that holds the unit's id
    "questions": (Question.SCHEMA, "id"),
    "trajectories": (Trajectory.SCHEMA, "id"),
    "curves": (Curve.SCHEMA, "trajectory_id"),
    "updates": (Update.SCHEMA, "id"),
    "landscapes": (Landscape.SCHEMA, "id"),
    "scores": (Score.SCHEMA, "id"),
    "steps": (Step.SCHEMA, "id"),
}
STAGES = tuple(_KINDS)
_PACKAGES = ("innerloop", "torch", "transformers", "tokenizers", "datasets", "math-verify", "reasoning-gym")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Manifest = dict[str, Any]


class Run:
    """One run folder. Make it with ``Run.open`` (to read) or ``Run.start`` (to write)."""

    def __init__(self, path: Path, manifest: Manifest, verb: str | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._verb = verb
        self._corrupt: set[Path] = set()
        self._fresh = verb is not None and verb not in manifest["stages"]  # nothing of this verb is in the folder yet

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run folder, for reading. Raises ``InputError`` where there is none."""
        path = Path(path)
        if not (path / "run.json").is_file():
            what = "has no run.json" if path.exists() else "does not exist"
            raise InputError(f"{path}: not a run folder ({what}); give the folder that an innerloop command wrote")
        return cls(path, _read_manifest(path / "run.json"))

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
    ) -> Iterator[Run]:
        """Create the folder or go on with it, hold it while the block runs, and record how the block ended.

        ``configuration`` is JSON-able; its fields named in ``free`` do not affect results and may differ between
        starts. Raises ``InputError`` when another process writes here, when the folder belongs to something else,
        or when ``verb`` ran here with another configuration. A first start that ends with an error before anything
        was written leaves no trace, so that a slip in the arguments does not occupy the folder.
        """
        path = Path(path)
        configuration = json.loads(json.dumps(configuration))  # tuples become lists, as they will when read back
        _make_folder(path)
        with _locked(path):
            run = cls(path, _manifest_to_go_on_with(path), verb)
            _refuse_another(path, verb, run.manifest["stages"].get(verb), configuration, free)
            run._clean()
            run._begin(configuration, list(command) if command is not None else None)
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
        schema, key = _KINDS[stage]
        tables: list[pa.Table] = []
        seen = pa.array([], pa.string())
        for shard in reversed(self._shards(stage)):
            table = self._read_shard(shard, schema)
            if table is None:
                continue
            table = table.filter(pc.invert(pc.is_in(table[key], value_set=seen)))
            seen = pa.concat_arrays([seen, pc.unique(table[key].combine_chunks())])
            tables.append(table)
        return pa.concat_tables(reversed(tables)) if tables else schema.empty_table()

    def done(self, stage: str, column: str | None = None) -> set[str]:
        """The values of ``column`` (by default the unit ids) in the shards that can be read."""
        return set(pc.unique(self.read(stage)[column or _KINDS[stage][1]]).to_pylist())

    def write(self, stage: str, table: pa.Table) -> Path:
        """Add one shard of whole units. ``InputError`` on a full disk or a read-only folder, nothing half-written."""
        schema, _ = _KINDS[stage]
        folder = self.path / stage
        try:
            folder.mkdir(exist_ok=True)
            for shard in [shard for shard in self._corrupt if shard.parent == folder]:
                shard.rename(shard.with_name(f"{shard.name}.corrupt"))
                self._corrupt.remove(shard)
        except OSError as error:
            _cannot_write(folder, error)
        numbers = [int(name.stem.split(".")[0]) for name in folder.glob("[0-9]*.parquet*")]
        sink = pa.BufferOutputStream()
        pq.write_table(table.cast(schema), sink, compression="zstd", write_page_checksum=True)
        shard = write_file(folder / f"{max(numbers, default=-1) + 1:05d}.parquet", sink.getvalue())
        self._fresh = False
        return shard

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
        return sorted((self.path / stage).glob("[0-9]*.parquet"))

    def _read_shard(self, shard: Path, schema: pa.Schema) -> pa.Table | None:
        """The rows with the columns of ``schema`` (absent nullable ones null), or None for a corrupt shard."""
        try:
            # A ParquetFile, unlike pq.read_table, looks at this file alone and at no folder names.
            with pq.ParquetFile(shard, page_checksum_verification=True) as file:
                table = file.read()
            columns = [
                table[field.name] if field.name in table.column_names or not field.nullable else pa.nulls(len(table))
                for field in schema
            ]
            return pa.table(columns, names=schema.names).cast(schema)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            if shard not in self._corrupt:
                self._corrupt.add(shard)
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("%s is corrupt and left out (%s); the same command again redoes its units", shard, reason)
            return None

    def _clean(self) -> None:
        """Remove what a killed process left half-written; we hold the lock, so nobody is writing it."""
        for folder in (self.path, *(self.path / stage for stage in STAGES)):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def _entry(self) -> dict[str, Any]:
        assert self._verb is not None, "a run opened for reading has no verb of its own"
        return self.manifest["stages"][self._verb]

    def _begin(self, configuration: dict[str, Any], command: list[str] | None) -> None:
        assert self._verb is not None
        before = self.manifest["stages"].get(self._verb, {})
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
            (self.path / "run.json").unlink()
            if not any(entry for entry in self.path.iterdir() if entry.name != ".lock"):
                (self.path / ".lock").unlink()
                self.path.rmdir()

    def _save(self) -> None:
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n"
        write_file(self.path / "run.json", text.encode())


def write_file(path: Path, content: bytes | pa.Buffer) -> Path:
    """Write a file whole or not at all: a temporary name in the same folder, fsync, rename.

    Raises ``InputError`` when the disk is full or the folder cannot be written, and leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        _cannot_write(path, error)
    return path


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _cannot_write(path, error)


def _cannot_write(path: Path, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        remedy = "free some space and run the same command again, what was finished is kept"
        raise InputError(f"{path}: cannot write, {reason}; {remedy}") from error
    raise InputError(f"{path}: cannot write, {reason}; choose a folder that can be written with --out") from error


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore it or choose another folder") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("stages"), dict):
        raise InputError(f"{path}: not a run's manifest (no 'stages'); restore it or choose another folder")
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {manifest.get('format')!r}, but this version of innerloop reads format {FORMAT}; "
            f"use the version that wrote it"
        )
    return manifest


def _manifest_to_go_on_with(path: Path) -> Manifest:
    if (path / "run.json").is_file():
        return _read_manifest(path / "run.json")
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder for this process; the kernel lets go when the process dies, however it dies."""
    try:
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        _cannot_write(path, error)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            raise InputError(
                f"{path}: in use by another innerloop process (pid {holder}); wait for it or choose another --out"
            ) from error
        except OSError as error:
            _cannot_write(path / ".lock", error)
        with suppress(OSError):  # the pid only helps the reader of a message
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        _release_in_forked_workers()
        _held.add(handle)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


_held: set[int] = set()


@cache
def _release_in_forked_workers() -> None:
    """A forked worker must not keep the folder locked after its parent was killed."""

    def release() -> None:
        while _held:
            os.close(_held.pop())

    os.register_at_fork(after_in_child=release)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

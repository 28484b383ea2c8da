"""Does an evaluation survive being killed, again and again, wherever it hurts?

    python benchmarks/kills.py                          # 40 kills over llama.cpp in process and a llama.cpp server
    python benchmarks/kills.py --engine server --kills 6 --size 8 --n 4

An evaluation runs once undisturbed. Then the same command runs into another folder while SIGKILL hits, at random
moments, its main process, one of its verifier's workers, or the server that it samples from; the command is started
again whenever it ended, the server whenever it was killed. Only hits count that found a live process in the middle of
the work: a main process that has written or begun to judge since it was started, a worker of such a one, a server that
such a one is sampling from. Then both folders are compared: the same ids, none missing, none twice, every sample
judged, and the same verdicts wherever the texts are the same (they always should be with one stream).

The exit status is 1 on any difference, and where the work was over before all kills had hit (then raise --size or --n).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from innerloop.schema import Trajectory
from innerloop.store import Run
from measure import kills_verdict, log, show

QUESTIONS = "gym:chain_sum?size={size}&seed=0&min_terms=2&max_terms=2&min_digits=1&max_digits=2"
INSTRUCTION = r"Write only the result, as \boxed{result}."  # short samples with answers that the workers have to judge
ENGINES = ("llamacpp", "server")
QUIET = 300.0  # seconds without a new shard or worker after which something is wrong
SERVE = """
import sys, time, xllamacpp
from innerloop.rollout.llamacpp_engine import gguf_file
settings = xllamacpp.CommonParams()
settings.model.path = str(gguf_file("smollm2"))
settings.port = int(sys.argv[1])
settings.n_parallel, settings.n_ctx = 1, 1024
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.verbosity, settings.cache_ram_mib = 0, 0
settings.ui = settings.warmup = settings.cache_prompt = False
server = xllamacpp.Server(settings)
while True:
    time.sleep(3600)
"""


def main() -> int:
    """Both evaluations on every engine, the comparison, the tables."""
    options = arguments()
    draw = random.Random(options.seed)
    engines = ENGINES if options.engine == "both" else (options.engine,)
    share = [options.kills // len(engines) + (i < options.kills % len(engines)) for i in range(len(engines))]
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for engine, kills in zip(engines, share, strict=True):
            trial = Trial(engine, kills, draw, options, Path(options.out or scratch) / engine)
            rows.append(trial.run())
            faults += [f"{engine}: {fault}" for fault in trial.faults]
    columns = list(rows[0])
    show("kills that hit, and what they left", columns, [[str(row.get(name, "")) for name in columns] for row in rows])
    return kills_verdict(faults)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both")
    parser.add_argument("--kills", type=int, default=40, help="over all engines")
    parser.add_argument("--size", type=int, default=12, help="questions")
    parser.add_argument("--n", type=int, default=5, help="samples of each")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--pause", type=float, default=3.0, help="mean seconds of work between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--out", help="keep the run folders here")
    return parser.parse_args()


@dataclass
class Server:
    """llama.cpp's own server in a process of its own, always on the same port."""

    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    back_at: float | None = None

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.back_at = None
        deadline = time.monotonic() + QUIET
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "the server does not come up"
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Trial:
    """One engine: the undisturbed run, the disturbed one, and what differs."""

    engine: str
    kills: int
    draw: random.Random
    options: argparse.Namespace
    folder: Path
    server: Server = field(default_factory=Server)
    hits: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    faults: list[str] = field(default_factory=list)
    main: subprocess.Popen[bytes] | None = None
    seen: int = 0  # shards when the main process was started

    def run(self) -> dict[str, object]:
        started = time.monotonic()
        try:
            if self.engine == "server":
                self.server.start()
            whole, broken = self.folder / "whole", self.folder / "broken"
            self._start(whole)
            assert self.main is not None
            if self.main.wait() != 0:
                raise SystemExit(f"the undisturbed run failed:\n{self._said(whole)}")
            quiet = time.monotonic() - started
            self._disturb(broken)
            compared = self._compare(whole, broken)
        finally:
            if self.main is not None:
                self.main.kill()
                self.main.wait()
            self.server.stop()
        return {
            "engine": self.engine,
            "kills": sum(self.hits.values()),
            **{f"of {name}": self.hits[name] for name in self._victims()},
            "starts": self.starts - 1,
            "seconds without": round(quiet),
            "with": round(time.monotonic() - started - quiet),
            **compared,
        }

    def _victims(self) -> dict[str, Callable[[], Sequence[int]]]:
        """Who can be hit, and how to find them now; workers of other kinds get a line of their own here."""
        return {
            "main": lambda: [self.main.pid] if self.main is not None and self.main.poll() is None else [],
            "worker": lambda: self._children("evaluate.verify.worker"),
            "ray worker": lambda: self._children("ray::"),
            "server": lambda: [self.server.process.pid] if self.server.process and not self.server.back_at else [],
        }

    def _children(self, mark: str) -> list[int]:
        """Processes below the main one whose command line holds the mark."""
        if self.main is None or self.main.poll() is not None:
            return []
        try:
            below = psutil.Process(self.main.pid).children(recursive=True)
            return [child.pid for child in below if mark in " ".join(child.cmdline())]
        except psutil.Error:  # one has just ended
            return []

    def _command(self, out: Path) -> list[str]:
        options = self.options
        own = ["--threads", "1"] if self.engine == "llamacpp" else ["--server", f"http://127.0.0.1:{self.server.port}"]
        return [
            *(sys.executable, "-m", "innerloop", "eval", "--model", "smollm2", "--engine", self.engine, *own),
            *("--questions", QUESTIONS.format(size=options.size), "--n", str(options.n), "--concurrency", "1"),
            *("--max-tokens", str(options.max_tokens), "--instruction", INSTRUCTION, "--out", str(out), "--json"),
        ]

    def _start(self, out: Path) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        self.seen = len(shards(out))
        with out.with_suffix(".log").open("ab") as sink:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self.main = subprocess.Popen(self._command(out), stdout=sink, stderr=sink, env=environment)

    def _said(self, out: Path) -> str:
        return out.with_suffix(".log").read_text()[-2000:]

    def _disturb(self, out: Path) -> None:
        """Kill until the quota is reached, start again until the work is done."""
        self._start(out)
        calm = time.monotonic()
        due: float | None = None
        while True:
            time.sleep(0.1)  # looking takes time from those that work
            now = time.monotonic()
            if self.server.back_at is not None and now >= self.server.back_at:
                self.server.start()
            assert self.main is not None
            status = self.main.poll()
            if status == 0:
                break
            if status is not None:
                if status != -signal.SIGKILL and not (self.engine == "server" and status in (1, 2)):
                    raise SystemExit(f"exit status {status}:\n{self._said(out)}")
                self._start(out)
                calm, due = now, None
            working = len(shards(out)) != self.seen or bool(self._children("evaluate.verify.worker"))
            if working:
                calm = now
                due = due or now + self.draw.uniform(0, 2 * self.options.pause)
            elif now - calm > QUIET:
                raise SystemExit(f"nothing happens:\n{self._said(out)}")
            if working and due is not None and now >= due and sum(self.hits.values()) < self.kills:
                self._hit()
                due = None
        if (hit := sum(self.hits.values())) < self.kills:
            self.faults.append(f"the work was over after {hit} of {self.kills} kills: raise --size or --n")

    def _hit(self) -> None:
        """One kill, of a kind that is there now; kinds take equal turns as far as chance has it."""
        there = {name: pids for name, find in self._victims().items() if (pids := find())}
        fewest = min(self.hits[name] for name in there)
        name = self.draw.choice([name for name in there if self.hits[name] <= fewest + 1])
        pid = self.draw.choice(list(there[name]))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended by itself meanwhile
            return
        self.hits[name] += 1
        log(f"{self.engine}: kill {sum(self.hits.values())} of {self.kills}, {name}")
        if name == "main" and self.main is not None:
            self.main.wait()
        if name == "server" and self.server.process is not None:
            self.server.process.wait()
            self.server.back_at = time.monotonic() + self.draw.uniform(0.2, 3)

    def _compare(self, whole: Path, broken: Path) -> dict[str, object]:
        one, two = ({entry.id: entry for entry in Run.open(path).trajectories()} for path in (whole, broken))
        wanted = self.options.size * self.options.n
        if len(one) != wanted:
            self.faults.append(f"the undisturbed run has {len(one)} of {wanted} samples")
        if missing := one.keys() - two.keys():
            self.faults.append(f"lost: {len(missing)}, such as {min(missing)}")
        if extra := two.keys() - one.keys():
            self.faults.append(f"too many: {len(extra)}, such as {min(extra)}")
        both = sorted(one.keys() & two.keys())
        for name in both:
            if two[name].outcome is None or two[name].status.value == "error":
                self.faults.append(f"{name}: {two[name].status}, verdict {two[name].outcome}")
        same = [name for name in both if said(one[name]) == said(two[name])]
        for name in same:
            if one[name].outcome is not two[name].outcome:
                self.faults.append(f"{name}: {one[name].outcome} without kills, {two[name].outcome} with them")
        rows = Run.open(broken).read("trajectories").num_rows
        if rows != len(two):
            self.faults.append(f"{rows} rows for {len(two)} samples")
        raw = sum(pq.read_metadata(shard).num_rows for shard in shards(broken))
        return {
            "samples": len(two),
            "same texts": len(same),
            "written twice": raw - rows,
            "shards": len(shards(broken)),
        }


def said(trajectory: Trajectory) -> tuple[object, ...]:
    return trajectory.text, trajectory.final, trajectory.status


def shards(out: Path) -> list[Path]:
    return list((out / "trajectories").glob("*.parquet"))


if __name__ == "__main__":
    sys.exit(main())

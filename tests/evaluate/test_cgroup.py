"""Memory groups: where they are looked for, what is read from them, and that none is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.evaluate.verify.sandbox import cgroup


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        (  # version 2, in a scope of the user's own manager
            "0::/user.slice/user@1.service/app.slice/a.scope",
            "30 24 0:26 / {root} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            ["user.slice/user@1.service/app.slice", "user.slice/user@1.service/app.slice/a.scope", "."],
        ),
        (  # version 1 beside a version 2 without memory
            "4:memory:/box\n1:cpu:/\n0::/",
            "1 0 0:1 / {root} rw - cgroup cgroup rw,memory\n2 0 0:2 / /nowhere rw - cgroup2 cgroup2 rw",
            ["box", "."],
        ),
        (  # a container that sees its own part as the root
            "0::/",
            "30 24 0:26 /docker/abc {root} ro - cgroup2 cgroup rw",
            ["."],
        ),
        ("", "", []),
    ],
    ids=["v2", "v1", "container", "none"],
)
def test_where_memory_groups_are_looked_for(tmp_path, own, mounts, found):
    root = tmp_path / "cgroup"
    for name in found:
        (root / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "own").write_text(own)
    (tmp_path / "mounts").write_text(mounts.format(root=root))
    assert cgroup._candidates(tmp_path / "own", tmp_path / "mounts") == [root / name for name in found]


@pytest.mark.parametrize("version", [1, 2])
def test_a_memory_group(tmp_path, version, monkeypatch):
    """In a folder that only looks like the kernel's."""
    limit, events = ("memory.max", "memory.events") if version == 2 else ("memory.limit_in_bytes", "memory.oom_control")
    make = Path.mkdir

    def made(path: Path) -> None:
        make(path)
        for name in (limit, events, "cgroup.procs"):
            (path / name).touch()

    monkeypatch.setattr(Path, "mkdir", made)
    group = cgroup.Group(tmp_path, 5 << 20)
    (folder,) = tmp_path.iterdir()
    assert (folder / limit).read_text() == str(5 << 20)
    assert not group.exceeded()
    (folder / events).write_text("low 0\noom 1\noom_kill 0\n")
    assert not group.exceeded()
    (folder / events).write_text("low 0\noom 1\noom_kill 2\n")
    assert group.exceeded()
    os.write(group.members, b"0")
    assert (folder / "cgroup.procs").read_text() == "0"
    for file in folder.iterdir():
        file.unlink()
    group.close()
    assert not folder.exists()


def test_groups_that_a_killed_run_left_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    for name in (f"innerloop-{gone.pid}-0", f"innerloop-{os.getpid()}-0", "innerloop-other", "another"):
        (tmp_path / name).mkdir()
    cgroup._remove_left(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"innerloop-{os.getpid()}-0", "innerloop-other", "another"}

"""What sets the project up and what fuzzes it: `.ci/install.py` and `fuzz/run.py`."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Commands:
    """Stands in for `subprocess.run`: notes what is called; ``said`` is what pip's configuration holds."""

    def __init__(self, said: str = "", failing: str = "") -> None:
        self.said, self.failing = said, failing
        self.called: list[str] = []
        self.environment: dict[str, str] = {}

    def __call__(self, command: list[str], env: dict[str, str] | None = None, **_: object) -> object:
        words = " ".join(command[1:])
        self.called.append(words)
        self.environment = env or self.environment
        failed = bool(self.failing) and words.startswith(self.failing)
        return subprocess.CompletedProcess(command, int(failed), self.said if "config list" in words else "", "")


def test_pips_settings_become_uvs_and_what_is_nearer_wins(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    said = """\
:env:.find-links='/wheels https://example.org/more'
:env:.disable-pip-version-check='1'
global.cert='/ca.pem'
global.extra-index-url='file:///one/simple\\nfile:///two/simple'
global.find-links='/elsewhere'
global.index-url='https://example.org/global'
install.index-url='https://example.org/install'
"""
    monkeypatch.setattr(subprocess, "run", Commands(said))
    assert install.translated() == {
        "UV_FIND_LINKS": "/wheels,https://example.org/more",
        "UV_INDEX": "file:///one/simple file:///two/simple",
        "UV_DEFAULT_INDEX": "https://example.org/install",
        "SSL_CERT_FILE": "/ca.pem",
    }


@pytest.mark.parametrize(
    ("commands", "last"),
    [
        (Commands(), "-m uv pip install --quiet"),
        (Commands("global.platform='linux'\n"), "-m pip install --quiet x"),  # uv does not know such a setting
        (Commands(failing="-m pip config"), "-m pip install --quiet x"),
        (Commands(failing="-m uv --version"), "-m pip install --quiet x"),
        (Commands(failing="-m uv pip install"), "-m pip install --quiet x"),
    ],
)
def test_pip_installs_where_uv_cannot(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, commands: Commands, last: str
) -> None:
    monkeypatch.setattr(subprocess, "run", commands)
    assert install.main(["x"]) == 0
    assert commands.called[-1].startswith(last)


def test_what_neither_can_install_fails(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Commands(failing="-m "))
    assert install.main(["x"]) != 0


@pytest.mark.parametrize("arguments", [["--no-compile", "x"], ["x"]])
def test_bytecode_is_written_unless_asked_not_to(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    install.main(arguments)
    assert ("--compile-bytecode" in commands.called[-1]) == ("--no-compile" not in arguments)
    assert commands.environment["UV_INDEX_STRATEGY"] == "unsafe-best-match", "as pip looks into all indexes"


@pytest.fixture
def fuzz(tmp_path: Path) -> Path:
    """A copy of the runner, with a target that fails on inputs with a nought and one that never does."""
    for name, line in (("broken", 'assert b"0" not in data, "a nought"'), ("sound", "bytes(data)")):
        code = f"INSTRUMENT = ()\n\n\ndef one(data):\n    {line}\n"
        for folder in ("targets", f"seeds/{name}"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "targets" / f"{name}.py").write_text(code)
        (tmp_path / "seeds" / name / "first").write_bytes(b"1234" if name == "sound" else b"1230")
    return Path(shutil.copy(ROOT / "fuzz" / "run.py", tmp_path))


@pytest.mark.slow
def test_what_fuzzing_finds_fails_it_and_can_be_repeated(fuzz: Path) -> None:
    pytest.importorskip("atheris", reason="needs atheris: pip install atheris")
    command = [sys.executable, str(fuzz), "--seconds", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout
    lines = ran.stdout.splitlines()
    assert any(line.startswith("sound: nothing found. Done ") for line in lines), ran.stdout
    (hint,) = (line for line in lines if line.startswith("broken: FAILED; its input is "))
    assert "AssertionError: a nought" in ran.stdout
    again = hint.partition("to repeat it: ")[2].split()
    (found,) = (fuzz.parent / "found" / "broken").iterdir()
    assert again[-1] == str(found)
    repeated = subprocess.run(again, capture_output=True, text=True, check=False)
    assert repeated.returncode != 0
    assert "AssertionError: a nought" in repeated.stderr
    assert subprocess.run([*command, "sound"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_target_that_cannot_start_fails(fuzz: Path) -> None:
    pytest.importorskip("atheris", reason="needs atheris: pip install atheris")
    (fuzz.parent / "targets" / "broken.py").write_text("import nothing_of_the_kind\n")
    command = [sys.executable, str(fuzz), "--seconds", "1", "broken"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "No module named 'nothing_of_the_kind'" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "broken: FAILED; it ended with exit status 1 and left no input"

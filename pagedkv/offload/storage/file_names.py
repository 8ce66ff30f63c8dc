"""A file that no name leads to: when the process ends, however it ends, the file is gone."""

import errno
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pagedkv.errors import ConfigError
from pagedkv.offload.storage.file_layer import FileLayer

__all__ = ["open_nameless"]

_PATTERN = re.compile(r"pagedkv-\d+-[0-9a-f]{32}\.pages")
_NOT_HERE = (errno.EINVAL, errno.EISDIR, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that does not know a flag of open()."""
_log = logging.getLogger("pagedkv")


def open_nameless(folder: Path, files: FileLayer, *, direct_io: bool) -> int:
    """Open a new file for reading and writing, and remove what dead processes have left of theirs.

    Where the file system cannot make files without a name, it has one for a moment; a process that dies in
    that moment leaves it behind. Such a file is known by its name, and by a lock that nobody holds.

    Args:
        folder: where; nothing else in it is touched.
        files: the system calls.
        direct_io: past the page cache of the operating system, if the file system can.

    Returns:
        Its descriptor.

    Raises:
        ConfigError: there is no such folder, or it cannot be written to.
    """
    with _explained(folder):
        _remove_left_behind(folder, files)
        for flags in (os.O_DIRECT, 0) if direct_io else (0,):
            with suppress(_NotHereError):
                return _open(folder, files, os.O_RDWR | flags)
            _log.info("[Offload] %s has no direct IO; the page cache is used", folder)
    raise ConfigError(f"{folder} takes no files: choose another folder as nvme_path")


class _NotHereError(Exception):
    """The file system does not know the flags."""


def _open(folder: Path, files: FileLayer, flags: int) -> int:
    with suppress(_NotHereError), _told():
        return files.open(folder, flags | os.O_TMPFILE)
    path = folder / f"pagedkv-{os.getpid()}-{secrets.token_hex(16)}.pages"
    with _told():
        try:
            fd = files.open(path, flags | os.O_CREAT | os.O_EXCL)
        except OSError:
            with suppress(OSError):  # a file system may make a file and then refuse the flags
                files.unlink(path)
            raise
    try:
        with suppress(BlockingIOError):  # somebody who cleans up was quicker than this lock, and holds one
            files.lock(fd)
        with suppress(FileNotFoundError):  # likewise, and has removed the name
            files.unlink(path)
    except OSError:
        files.close(fd)
        with suppress(OSError):
            files.unlink(path)
        raise
    return fd


def _remove_left_behind(folder: Path, files: FileLayer) -> None:
    for name in files.names(folder):
        if _PATTERN.fullmatch(name) is None:
            continue
        path = folder / name
        try:
            fd = files.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # somebody else's
            continue
        try:
            files.lock(fd)
            files.unlink(path)
            _log.info("[Offload] Removed %s, which a process that ended left behind", path)
        except OSError:  # it is in use, or another process removed it
            pass
        finally:
            files.close(fd)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise _NotHereError from error
        raise


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"nvme_path {folder} cannot be used ({error}): it must be a folder that exists and takes files"
        ) from error

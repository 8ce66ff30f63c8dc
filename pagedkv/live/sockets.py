"""Unix sockets that belong to one user, from the moment they exist."""

import errno
import fcntl
import os
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pagedkv.errors import ConfigError

__all__ = ["bind_private", "holder", "is_stale", "peer", "remove"]

_MODE = 0o600
_LONGEST_PATH = 107  # bytes, of the 108 of sockaddr_un
_TEMPORARY = len("/.pkv12345678/s")
_BACKLOG = 16
_CONNECT_S = 0.5
_LOCK_S = 1.0
_CREDENTIALS = struct.Struct("3i")


def bind_private(path: Path) -> socket.socket:
    """A listening socket at a path, mode 0600; the socket of a dead process there gives way.

    It is bound in a folder of mode 0700 and moved when its own mode is set, so that there is no moment at
    which others might connect.

    Raises:
        ConfigError: a live process has the path, something else is there, or it cannot be made.
    """
    if len(os.fsencode(path.parent)) + _TEMPORARY > _LONGEST_PATH or len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"debug_socket {path} is too long: the path of a socket has at most {_LONGEST_PATH} bytes, and "
            f"that of its folder {_LONGEST_PATH - _TEMPORARY}"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".pkv", dir=path.parent) as folder, _alone_in(path.parent):
            return _bound(Path(folder) / "s", path)
    except OSError as error:
        raise ConfigError(f"debug_socket {path} cannot be made: {error.strerror or error}") from error


def _bound(at: Path, path: Path) -> socket.socket:
    _require_free(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(at))
        at.chmod(_MODE)
        listener.listen(_BACKLOG)
        at.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


def remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove a socket, unless another one is there by now."""
    with suppress(OSError):
        if identity_of(path) == identity:
            path.unlink()


def identity_of(path: Path) -> tuple[int, int]:
    """What tells a file from another one at the same path."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def is_stale(path: Path) -> bool:
    """Whether a socket is there behind which nobody listens any more."""
    try:
        with connected(path, _CONNECT_S):
            return False
    except OSError as error:
        return error.errno == errno.ECONNREFUSED


def holder(path: Path) -> int | None:
    """The process that listens at a path; None if none does."""
    try:
        with connected(path, _CONNECT_S) as connection:
            return peer(connection)[0]
    except OSError:
        return None


def connected(path: Path, timeout_s: float) -> socket.socket:
    """A connection to whoever listens at a path.

    Raises:
        OSError: nobody does, or it is not allowed.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(os.fspath(path))
    except BaseException:
        connection.close()
        raise
    return connection


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a connection."""
    size = _CREDENTIALS.size
    pid, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, user


def _require_free(path: Path) -> None:
    """Check that nothing is at a path, or the socket of a dead process."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"debug_socket {path} is not free: a file is there that is no socket; remove it")
    if (pid := holder(path)) is not None:
        raise ConfigError(
            f"debug_socket {path} is not free: process {pid} answers there; choose another path, or put %p "
            "into it, which stands for the process"
        )
    if not is_stale(path):
        raise ConfigError(
            f"debug_socket {path} is not free: a socket is there that cannot be asked; remove it"
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Take turns with others who bind in a folder, as long as nobody holds it up."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give_up = time.monotonic() + _LOCK_S
        while time.monotonic() < give_up:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)

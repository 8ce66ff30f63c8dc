"""Asking a live engine."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from socket import SHUT_WR, socket
from typing import Any

from pagedkv.errors import EngineUnreachable, PagedKVError
from pagedkv.live import protocol
from pagedkv.live.snapshots import require_snapshot
from pagedkv.live.sockets import connected

__all__ = ["ask"]

_CHUNK_BYTES = 1 << 16
_LONGEST_HEADER = 4096


def ask(path: Path, sections: Sequence[str] | None = None, *, timeout_s: float = 10.0) -> dict[str, Any]:
    """A snapshot of the engine at a socket, as `Engine.snapshot` has it.

    Args:
        path: the socket.
        sections: which sections; None for the usual ones.
        timeout_s: for all of it.

    Raises:
        EngineUnreachable: nobody answers there, or it is no engine; says which.
        PagedKVError: it speaks another version, or refuses.
    """
    give_up = time.monotonic() + timeout_s
    with _connected(path, timeout_s) as connection:
        try:
            connection.sendall(protocol.request_line(sections))
            connection.shutdown(SHUT_WR)
            return _answer(path, connection, give_up)
        except TimeoutError as error:
            raise EngineUnreachable(
                f"{path}: no answer within {timeout_s:g} s: the process hangs, or is not a pagedkv engine"
            ) from error
        except OSError as error:
            raise EngineUnreachable(f"{path}: the connection broke: {error.strerror}") from error


def _connected(path: Path, timeout_s: float) -> socket:
    try:
        return connected(path, timeout_s)
    except FileNotFoundError as error:
        raise EngineUnreachable(f"{path}: there is no such socket") from error
    except ConnectionRefusedError as error:
        what = (
            "the process that had this socket is dead" if path.is_socket() else "it is a file, and no socket"
        )
        raise EngineUnreachable(f"{path}: nobody answers: {what}") from error
    except PermissionError as error:
        raise EngineUnreachable(f"{path}: permission denied: only the engine's own user may ask") from error
    except OSError as error:
        raise EngineUnreachable(f"{path}: cannot be asked: {error.strerror or error}") from error


def _answer(path: Path, connection: socket, give_up: float) -> dict[str, Any]:
    got = bytearray()
    while b"\n" not in got and len(got) <= _LONGEST_HEADER and (more := _received(connection, give_up)):
        got += more
    header, _, start = bytes(got).partition(b"\n")
    try:
        body = bytearray(start)
        num_bytes = protocol.read_header(header)
        while len(body) < num_bytes and (more := _received(connection, give_up)):
            body += more
    except ValueError as error:
        raise EngineUnreachable(f"{path}: what answers there is not a pagedkv engine") from error
    if len(body) != num_bytes:
        raise EngineUnreachable(f"{path}: the answer broke off after {len(body)} of {num_bytes} bytes")
    try:
        return require_snapshot(json.loads(body), f"{path}: the answer")
    except ValueError as error:
        if isinstance(error, PagedKVError):
            raise
        raise EngineUnreachable(f"{path}: the answer is not JSON") from error


def _received(connection: socket, give_up: float) -> bytes:
    rest = give_up - time.monotonic()
    if rest <= 0:
        raise TimeoutError
    connection.settimeout(rest)
    return connection.recv(_CHUNK_BYTES)

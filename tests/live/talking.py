"""Servers of made-up snapshots, and clients that speak bytes."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pagedkv.live import DebugServer
from pagedkv.live.protocol import SCHEMA_VERSION

__all__ = ["answering", "made_up", "said", "serving"]


def made_up(sections: tuple[str, ...] | None) -> dict[str, Any]:
    """A snapshot of nothing, that says what it was asked for."""
    return {"schema_version": SCHEMA_VERSION, "asked": sections}


@contextmanager
def serving(path: Path, snapshot: Any = made_up) -> Iterator[DebugServer]:
    """A server at a path."""
    server = DebugServer(path, snapshot)
    try:
        yield server
    finally:
        server.close()


def said(path: Path, request: bytes, *, timeout_s: float = 10.0) -> bytes:
    """All that a server answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(os.fspath(path))
        with suppress(BrokenPipeError):
            connection.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while more := connection.recv(1 << 16):
                answer += more
        return answer


@contextmanager
def answering(path: Path, reply: bytes, *, stays: bool = False) -> Iterator[None]:
    """Something else that listens at a path, and says these bytes to whoever comes."""
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(reply)
                if stays:
                    done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

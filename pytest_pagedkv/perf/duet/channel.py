"""The line protocol between the process that decides and one that measures: a JSON object a line.

It has pipes of its own, so that whatever tests print cannot get in between.

    to the worker                                     its answer
    {"do": "start", "keys": [...], ...}               {"is": "ready", ...} or {"is": "broken", "why": ...}
    {"do": "open", "key": K, "next": K, "core": C}    {"is": "open", ...} or {"is": "ended", ...}
    {"do": "calibrate"}                               {"is": "calibrated", "calls": N, "call_ns": float}
    {"do": "batch", "calls": N, "untimed": 0 or 1}    {"is": "batch", "ns": float or null}
    {"do": "meter", "name": M}                        {"is": "meter", "value": int or null, "why": ...}
    {"do": "close"}                                   {"is": "ended", "outcome": ..., "counters": {...}, ...}
    {"do": "end"}                                     {"is": "over", "modules": {...}}
"""

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["PROTOCOL", "Channel", "ChannelClosedError", "ChannelError", "RubbishError", "SilenceError"]

PROTOCOL = 1

_MAX_LINE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 16


class ChannelError(Exception):
    """The other side cannot be talked to."""


class ChannelClosedError(ChannelError):
    """The other side is gone."""


class SilenceError(ChannelError):
    """The other side says nothing."""


class RubbishError(ChannelError):
    """The other side says what nobody understands."""


class Channel:
    """Both ends of the protocol; the pipes are closed to processes that this one starts.

    Args:
        read_fd: file descriptor to read from.
        write_fd: file descriptor to write to.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._pending = b""
        for descriptor in (read_fd, write_fd):
            os.set_inheritable(descriptor, False)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message.

        Raises:
            ChannelClosedError: nobody reads any more.
        """
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._write_fd, data) :]
        except OSError as error:
            raise ChannelClosedError(error.strerror) from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Read one message.

        Args:
            timeout_s: how long to wait; None waits as long as the other side lives.

        Raises:
            ChannelClosedError: the other side has closed the pipe.
            SilenceError: nothing came in time.
            RubbishError: what came is no message.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._pending:
            self._wait(deadline)
            chunk = os.read(self._read_fd, _CHUNK_BYTES)
            if not chunk:
                raise ChannelClosedError("the pipe is closed")
            self._pending += chunk
            if len(self._pending) > _MAX_LINE_BYTES:
                raise RubbishError(f"a line of more than {_MAX_LINE_BYTES} bytes")
        line, _, self._pending = self._pending.partition(b"\n")
        return _message(line)

    def close(self) -> None:
        """Close both pipes."""
        for descriptor in {self._read_fd, self._write_fd}:
            os.close(descriptor)

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([self._read_fd], [], [], left)[0]:
            raise SilenceError("no answer")


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise RubbishError(repr(line[:80])) from error
    if not isinstance(message, dict):
        raise RubbishError(repr(line[:80]))
    return message

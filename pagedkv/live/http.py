"""An address where Prometheus finds the metrics of an engine."""

import os
import socket

from pagedkv.errors import ConfigError, PagedKVError
from pagedkv.live.loop import ServingThread
from pagedkv.live.metrics import CONTENT_TYPE, METRIC_SECTIONS, metrics_text
from pagedkv.live.server import Snapshot

__all__ = ["MetricsServer"]

_BACKLOG = 16
_LONGEST_REQUEST = 8 * 1024
_HIGHEST_PORT = 2**16 - 1


class MetricsServer:
    """Answers `GET /metrics` with the metrics of a snapshot.

    Args:
        address: "host:port", or ":port" for this machine alone; port 0 is one that is free.
        snapshot: makes the snapshots.

    Attributes:
        address: where it answers.

    Raises:
        ConfigError: the address is none, or cannot be had.
    """

    def __init__(self, address: str, snapshot: Snapshot) -> None:
        self._pid = os.getpid()
        listener = _bound(*_parsed(address))
        host, port = listener.getsockname()[:2]
        self.address = f"{host}:{port}"
        self._thread = ServingThread(listener, _MetricsTalk(snapshot))

    def close(self) -> None:
        """Stop; a second call, or one of a forked child, does nothing."""
        if os.getpid() == self._pid:
            self._thread.close()


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > _HIGHEST_PORT:
        raise ConfigError(f"metrics_address is {address!r:.60}; it must be host:port, such as 127.0.0.1:9400")
    return host.strip("[]") or "127.0.0.1", int(port)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"metrics_address {host}:{port} cannot be had: {error.strerror or error}"
        ) from error
    return listener


class _MetricsTalk:
    """HTTP, as far as one path needs it."""

    max_request_bytes = _LONGEST_REQUEST

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def admits(self, connection: socket.socket) -> bool:
        del connection
        return True

    def is_whole(self, got: bytes) -> bool:
        return (b"\r\n\r\n" in got or b"\n\n" in got) and len(got) <= _LONGEST_REQUEST

    def answer(self, request: bytes) -> bytes:
        words = request.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return _response("400 Bad Request", "this is no HTTP request\n")
        method, path = words[0], words[1].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", "metrics can only be read\n")
        if path != b"/metrics":
            return _response("404 Not Found", "metrics are at /metrics\n")
        try:
            text = metrics_text(self._snapshot(METRIC_SECTIONS))
        except PagedKVError as error:
            return self.refusal(str(error))
        except Exception as error:  # noqa: BLE001 - the engine must not notice, and whoever asked must
            return self.refusal(f"{type(error).__name__}: {error}")
        return _response("200 OK", text, CONTENT_TYPE, with_body=method == b"GET")

    def refusal(self, reason: str) -> bytes:
        return _response("503 Service Unavailable", f"{reason}\n")


def _response(
    status: str, text: str, kind: str = "text/plain; charset=utf-8", *, with_body: bool = True
) -> bytes:
    body = text.encode()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + (body if with_body else b"")

"""The socket at which an engine says what it is doing."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pagedkv.errors import PagedKVError
from pagedkv.live import protocol
from pagedkv.live.loop import ServingThread
from pagedkv.live.sockets import bind_private, identity_of, peer, remove

__all__ = ["DebugServer", "Snapshot"]

Snapshot = Callable[[tuple[str, ...] | None], Mapping[str, Any]]
"""Makes a snapshot of these sections, or of the usual ones; called on the server's thread."""


class DebugServer:
    """Answers requests for snapshots on a Unix socket, for the user of this process alone.

    Args:
        path: where; what `places.asked_path` returned.
        snapshot: makes the answers.

    Attributes:
        path: where it answers.

    Raises:
        ConfigError: the path is taken, or the socket cannot be made.
    """

    def __init__(self, path: Path, snapshot: Snapshot) -> None:
        self.path = path
        self._pid = os.getpid()
        listener = bind_private(path)
        self._identity = identity_of(path)
        self._thread = ServingThread(listener, _SnapshotTalk(snapshot))

    def close(self) -> None:
        """Stop, and remove the socket; a second call, or one of a forked child, does nothing."""
        if os.getpid() == self._pid:
            remove(self.path, self._identity)
            self._thread.close()


class _SnapshotTalk:
    """Requests and replies of `protocol`."""

    max_request_bytes = protocol.MAX_REQUEST_BYTES

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def admits(self, connection: socket.socket) -> bool:
        return peer(connection)[1] == os.geteuid()

    def is_whole(self, got: bytes) -> bool:
        return b"\n" in got[-protocol.MAX_REQUEST_BYTES :] and len(got) <= protocol.MAX_REQUEST_BYTES

    def answer(self, request: bytes) -> bytes:
        try:
            body = self._body(request)
        except PagedKVError as error:
            return self.refusal(str(error))
        except Exception as error:  # noqa: BLE001 - the engine must not notice, and whoever asked must
            return self.refusal(f"{type(error).__name__}: {error}")
        return protocol.reply_header(pid=os.getpid(), num_bytes=len(body)) + body

    def refusal(self, reason: str) -> bytes:
        return protocol.reply_header(error=reason)

    def _body(self, request: bytes) -> bytes:
        sections = protocol.read_request(request.partition(b"\n")[0])
        body = protocol.encode_in_pieces(self._snapshot(sections))
        if len(body) > protocol.MAX_REPLY_BYTES:
            raise PagedKVError(
                f"the answer would be {len(body)} bytes, more than {protocol.MAX_REPLY_BYTES}: ask for less"
            )
        return body

"""What lets others look at an engine while it runs: its socket, its metrics. Off unless asked for."""

import os
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakMethod, finalize

from pagedkv.errors import PagedKVError
from pagedkv.live import DebugServer, Gate, MetricsServer, asked_path

__all__ = ["LiveView", "SocketPath"]

SocketPath = str | os.PathLike[str] | bool | None
"""Where an engine has its socket: a path, a folder, True for the usual place, None for what
`PAGEDKV_DEBUG_SOCKET` says."""

_Copied = Callable[[], Mapping[str, Any]]
"""Makes the values of what was copied; slow, and on any thread."""

_PATIENCE_S = 5.0


class LiveView:
    """The servers of one engine, which do not keep it alive.

    Args:
        gate: where they look at it.
        copied: the engine's method that copies these sections, quickly.
        debug_socket: where to answer.
        metrics_address: where Prometheus finds metrics; None for nowhere.

    Attributes:
        socket_path: where the socket is; None for nowhere.
        metrics_address: where the metrics are; None for nowhere.

    Raises:
        ConfigError: the socket or the address cannot be had.
    """

    def __init__(
        self,
        gate: Gate,
        copied: Callable[[tuple[str, ...] | None], _Copied],
        debug_socket: SocketPath,
        metrics_address: str | None,
    ) -> None:
        self._gate = gate
        self._copied = WeakMethod(copied)
        self._socket: DebugServer | None = None
        self._metrics: MetricsServer | None = None
        self.socket_path = asked_path(debug_socket)
        try:
            if self.socket_path is not None:
                self._socket = DebugServer(self.socket_path, self._snapshot)
            if metrics_address is not None:
                self._metrics = MetricsServer(metrics_address, self._snapshot)
        except BaseException:
            self._close()
            raise
        if self._socket is not None or self._metrics is not None:
            gate.survive_forks()
        self.metrics_address = None if self._metrics is None else self._metrics.address
        self._end = finalize(copied.__self__, self._close)  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the servers; a second call does nothing."""
        self._end()

    def _close(self) -> None:
        for server in (self._socket, self._metrics):
            if server is not None:
                server.close()

    def _snapshot(self, sections: tuple[str, ...] | None) -> Mapping[str, Any]:
        """On a server's thread: wait for a copy, and make values of it."""
        copied = self._copied()
        if copied is None:
            raise PagedKVError("the engine is gone")
        return self._gate.look(lambda: copied(sections), _PATIENCE_S)()

"""A thread that answers one request for each connection, and waits for nobody."""

import os
import selectors
import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

__all__ = ["ServingThread", "Talk"]

_CHUNK_BYTES = 64 * 1024
_TICK_S = 1.0


class Talk(Protocol):
    """What is said over a connection."""

    max_request_bytes: int
    """Of a request; who sends more is refused."""

    def admits(self, connection: socket.socket) -> bool:
        """Whether whoever has connected may ask at all."""

    def is_whole(self, got: bytes) -> bool:
        """Whether a request is complete."""

    def answer(self, request: bytes) -> bytes:
        """The reply to a complete request; does not raise."""

    def refusal(self, reason: str) -> bytes:
        """The reply to whoever gets no answer."""


class ServingThread:
    """Answers on a listening socket until it is closed, on a daemon thread.

    A client has so many seconds from its connection to the end of its reply; a slow one holds up nobody.

    Args:
        listener: listens; closed at the end.
        talk: what is said.
        max_clients: connections at once; more are refused.
        seconds: that a client has.
    """

    def __init__(
        self, listener: socket.socket, talk: Talk, *, max_clients: int = 8, seconds: float = 10.0
    ) -> None:
        self._listener, self._talk = listener, talk
        self._max_clients, self._seconds = max_clients, seconds
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._wakes, self._woken = socket.socketpair()
        self._pid = os.getpid()
        self._is_closing = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        _close_after_fork(weakref.ref(self))
        self._thread = threading.Thread(target=self._run, name="pagedkv-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and all connections; a second call does nothing."""
        if self._is_closing or os.getpid() != self._pid:
            return
        self._is_closing = True
        with suppress(OSError):  # the thread has looked already, and is gone
            self._wakes.send(b"\0")
        if threading.current_thread() is not self._thread:
            self._thread.join(_TICK_S)
        self._wakes.close()

    # ---- the thread

    def _run(self) -> None:
        try:
            while not self._is_closing:
                for key, _ in self._selector.select(_TICK_S):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif (client := self._clients.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                        self._go_on(client)
                self._drop_late()
        finally:
            self._shut()

    def _shut(self) -> None:
        for connection in (*self._clients, self._listener, self._woken):
            connection.close()
        self._clients.clear()
        self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone already, or there are no more files
            time.sleep(0.01)
            return
        connection.setblocking(False)
        client = _Client(connection, time.monotonic() + self._seconds)
        self._clients[connection] = client
        self._selector.register(connection, selectors.EVENT_READ)
        if not self._talk.admits(connection):
            self._drop(client)
        elif len(self._clients) > self._max_clients:
            self._reply(
                client, self._talk.refusal(f"{self._max_clients} others are being answered; ask again")
            )

    def _go_on(self, client: "_Client") -> None:
        """Read or write as much as there is."""
        try:
            if client.reply is None:
                self._read(client)
            else:
                self._write(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _read(self, client: "_Client") -> None:
        got = client.connection.recv(_CHUNK_BYTES)
        client.got += got
        if self._talk.is_whole(bytes(client.got)):
            self._reply(client, self._talk.answer(bytes(client.got)))
        elif len(client.got) > self._talk.max_request_bytes:
            reason = f"a request has at most {self._talk.max_request_bytes} bytes"
            self._reply(client, self._talk.refusal(reason))
        elif not got:
            self._drop(client)

    def _reply(self, client: "_Client", reply: bytes) -> None:
        client.reply = memoryview(reply)
        self._selector.modify(client.connection, selectors.EVENT_WRITE)

    def _write(self, client: "_Client") -> None:
        rest = client.reply or memoryview(b"")
        client.reply = rest[client.connection.send(rest[:_CHUNK_BYTES]) :]
        if not len(client.reply):
            self._drop(client)

    def _drop(self, client: "_Client") -> None:
        self._clients.pop(client.connection, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        with suppress(OSError):
            client.connection.shutdown(socket.SHUT_WR)
        client.connection.close()

    def _drop_late(self) -> None:
        now = time.monotonic()
        for client in [each for each in self._clients.values() if each.give_up < now]:
            self._drop(client)

    def _leave_to_parent(self) -> None:
        """In a forked child, which has no such thread: let go of the files, and touch nothing else."""
        self._is_closing = True
        for connection in (*self._clients, self._listener, self._wakes, self._woken):
            connection.close()


class _Client:
    """A connection, what came over it, and what is left of the reply."""

    __slots__ = ("connection", "give_up", "got", "reply")

    def __init__(self, connection: socket.socket, give_up: float) -> None:
        self.connection = connection
        self.give_up = give_up
        self.got = bytearray()
        self.reply: memoryview | None = None


def _close_after_fork(thread: "weakref.ref[ServingThread]") -> None:
    def leave() -> None:
        if (found := thread()) is not None:
            found._leave_to_parent()  # noqa: SLF001 - its own

    os.register_at_fork(after_in_child=leave)

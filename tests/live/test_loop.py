"""The end of a serving thread, however close it is."""

import socket

from pagedkv.live.loop import ServingThread


class Silent:
    """Nobody asks."""

    max_request_bytes = 10

    def admits(self, connection: socket.socket) -> bool:
        return True

    def is_whole(self, got: bytes) -> bool:
        return bool(got)

    def answer(self, request: bytes) -> bytes:
        return request

    def refusal(self, reason: str) -> bytes:
        return reason.encode()


def serving() -> ServingThread:
    """A thread with a listener of its own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return ServingThread(listener, Silent())


def test_the_thread_is_quicker_than_who_ends_it() -> None:
    """Replay: the thread saw that it is to end, and was gone before it was woken."""
    thread = serving()
    wakes = thread._wakes

    class Late:
        """Wakes a thread that has ended."""

        def send(self, data: bytes) -> int:
            thread._thread.join()
            return wakes.send(data)

        def close(self) -> None:
            wakes.close()

    thread._wakes = Late()
    thread.close()

    assert not thread._thread.is_alive()
    assert wakes.fileno() == -1
    thread.close()

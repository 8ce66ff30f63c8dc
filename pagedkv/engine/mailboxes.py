"""Who gets which output: whoever waits for a request, or else the next call of `Engine.step`."""

from collections import deque

from pagedkv.engine.outputs import RequestOutput
from pagedkv.request import RequestId

__all__ = ["Mailboxes"]


class Mailboxes:
    """Outputs until they are fetched; each is delivered once."""

    def __init__(self) -> None:
        self._boxes: dict[RequestId, deque[RequestOutput]] = {}
        self._open: deque[RequestOutput] = deque()

    def claim(self, request_id: RequestId, box: deque[RequestOutput]) -> None:
        """Put the outputs of a request into this box from now on, up to the finished one."""
        self._boxes[request_id] = box

    def claims(self, request_id: RequestId) -> bool:
        """Whether somebody waits for the request."""
        return request_id in self._boxes

    def unclaim(self, request_id: RequestId, box: deque[RequestOutput]) -> bool:
        """Let nobody wait for a request any more; whether this box did, and not that of another of its id."""
        is_theirs = self._boxes.get(request_id) is box
        if is_theirs:
            del self._boxes[request_id]
        return is_theirs

    def deliver(self, output: RequestOutput) -> None:
        """Put an output where it belongs."""
        self._boxes.get(output.request_id, self._open).append(output)
        if output.finished:
            self._boxes.pop(output.request_id, None)

    def fetch(self) -> list[RequestOutput]:
        """The outputs that nobody has claimed, oldest first."""
        found = list(self._open)
        self._open.clear()
        return found

    def __bool__(self) -> bool:
        """Whether there is anything to fetch."""
        return bool(self._open)

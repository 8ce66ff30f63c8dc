"""One request's outputs, as they come."""

from collections import deque
from typing import TYPE_CHECKING, Self

from pagedkv.engine.outputs import RequestOutput
from pagedkv.request import RequestId

if TYPE_CHECKING:
    from types import TracebackType

    from pagedkv.engine.core import EngineCore

__all__ = ["OutputStream"]


class OutputStream:
    """An iterator over what is new of a request, step by step; the last output is a finished one.

    The engine runs while it is asked for more, and other requests with it. A stream that is closed, or left,
    before its end aborts the request; so does one that nobody has any more, at the engine's next step.

    Args:
        engine: what runs.
        request_id: a request that streams.
        mail: where the engine puts its outputs.

    Attributes:
        request_id: the request's id.
    """

    def __init__(self, engine: "EngineCore", request_id: RequestId, mail: deque[RequestOutput]) -> None:
        self.request_id = request_id
        self._engine = engine
        self._mail = mail
        self._is_over = False

    def __iter__(self) -> "OutputStream":
        """The stream itself."""
        return self

    def __next__(self) -> RequestOutput:
        """What is new.

        Raises:
            StopIteration: everything was told.
            Exception: what the executor raised; the request goes on with the next call.
        """
        while not self._mail and not self._is_over:
            self._engine.run_step()
        if not self._mail:
            raise StopIteration
        output = self._mail.popleft()
        self._is_over = self._is_over or output.finished
        return output

    def close(self) -> None:
        """End the request, if it has not ended; outputs that were not asked for are dropped."""
        if not self._is_over:
            self._is_over = True
            self._engine.forsake([self.request_id], self._mail)
        self._mail.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._is_over:  # maybe in the middle of a step, as garbage is collected any time
            self._engine.forsake_later(self.request_id, self._mail)

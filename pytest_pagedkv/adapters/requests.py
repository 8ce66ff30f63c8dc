"""Which request of an engine belongs to which sequence of the suite."""

from typing import Any

__all__ = ["Requests"]


class Requests(dict[int, Any]):
    """The requests of the live sequences, by sequence id.

    The engines' cache managers are given requests, not ids. The map from ids to requests is in their
    schedulers, which refuse ids that are unknown or taken; this map does so in their place. One misuse it
    leaves to the engine: an ended request is kept, so that a second release gets the engine's own answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[int, Any] = {}

    def check_new(self, seq_id: int) -> None:
        """See that an id can be given to a new sequence.

        Raises:
            ValueError: it is live.
        """
        if seq_id in self:
            raise ValueError(f"sequence {seq_id} is live")

    def end(self, seq_id: int) -> Any:
        """The request to release: the live one, or the last one that has ended.

        Raises:
            KeyError: the id was never used.
        """
        if seq_id in self:
            self._ended[seq_id] = self.pop(seq_id)
        return self._ended[seq_id]

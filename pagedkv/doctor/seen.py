"""Where something was seen: how often, first, and worst. Bounded, however often it is."""

from collections.abc import Callable

from pagedkv.pitfalls.finding import Source

__all__ = ["Seen"]


class Seen:
    """Counts something and remembers two places.

    Attributes:
        count: how often it was seen.
        total: sum of its values.
        worst: highest value.
    """

    __slots__ = ("_first", "_worst", "count", "total", "worst")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.worst = 0.0
        self._first: Source | None = None
        self._worst: Source | None = None

    def note(self, where: Callable[[int], Source], position: int, value: float = 1.0) -> None:
        """Count it once.

        Args:
            where: gives the place at a position; asked only if it is worth remembering.
            position: where.
            value: how bad it is.
        """
        self.count += 1
        self.total += value
        if self._first is None or value > self.worst:
            place = where(position)
            self._first = self._first or place
            self._worst = place
            self.worst = value

    @property
    def sources(self) -> tuple[Source, ...]:
        """The first place, and the worst one if it is another."""
        if self._first is None or self._worst is None:
            return ()
        return (self._first,) if self._first == self._worst else (self._first, self._worst)

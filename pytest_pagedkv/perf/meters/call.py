"""What is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Call"]

_MAX_CALLS = 1_000_000
_MAX_PREPARED_CALLS = 256  # each may hold a whole cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is measured.

    Attributes:
        fn: the function.
        prepare: makes the arguments of one call, outside what is measured; None if there are none.
    """

    fn: Callable[..., object]
    prepare: Callable[[], tuple[Any, ...]] | None = None

    def arguments(self, num_calls: int) -> list[tuple[Any, ...]]:
        """Fresh arguments for a batch."""
        return [()] * num_calls if self.prepare is None else [self.prepare() for _ in range(num_calls)]

    def once(self) -> object:
        """One call that is not measured, and its result."""
        return self.fn(*(self.prepare() if self.prepare else ()))

    @property
    def max_calls(self) -> int:
        """How many calls a batch may have."""
        return _MAX_CALLS if self.prepare is None else _MAX_PREPARED_CALLS

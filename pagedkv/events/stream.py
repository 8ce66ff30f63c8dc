"""The stream that events go through, and what all of them have in common."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Event", "EventStream", "Sink"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of every event. Counts are non-negative; ids are those of the caller."""


Sink = Callable[[Event], object]


class EventStream:
    """Fans events out to the attached sinks.

    Attributes:
        emit: what to call with an event, or None while no sink is attached. Sinks run in the order in which
            they were attached. A sink must not raise: it is called in the middle of an operation, and what it
            raises reaches the caller with the rest undone.
    """

    __slots__ = ("_sinks", "emit")

    def __init__(self) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self.emit: Sink | None = None

    def attach(self, sink: Sink) -> None:
        """Start sending events to `sink`; a sink that is attached already is not attached twice."""
        if sink not in self._sinks:
            self._set((*self._sinks, sink))

    def detach(self, sink: Sink) -> None:
        """Stop sending events to `sink`; nothing happens if it is not attached."""
        self._set(tuple(s for s in self._sinks if s != sink))

    def _set(self, sinks: tuple[Sink, ...]) -> None:
        self._sinks = sinks
        self.emit = None if not sinks else sinks[0] if len(sinks) == 1 else self._fan_out

    def _fan_out(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)

"""The event stream: who hears what, and that silence is free."""

from pagedkv.events import Event, EventStream, SequenceForked


def test_without_a_sink_there_is_nothing_to_call() -> None:
    """Components ask for `emit` before they build an event."""
    assert EventStream().emit is None


def test_sinks_hear_every_event_in_the_order_they_came() -> None:
    """One sink, then two, then the other one alone."""
    stream, heard = EventStream(), []
    sinks = [lambda e: heard.append(("first", e)), lambda e: heard.append(("second", e))]
    events: list[Event] = [SequenceForked(1, n, 0) for n in range(3)]
    stream.attach(sinks[0])
    stream.attach(sinks[0])  # already there
    stream.emit(events[0])
    stream.attach(sinks[1])
    stream.emit(events[1])
    stream.detach(sinks[0])
    stream.detach(sinks[0])  # not there
    stream.emit(events[2])
    assert heard == [("first", events[0]), ("first", events[1]), ("second", events[1]), ("second", events[2])]
    stream.detach(sinks[1])
    assert stream.emit is None

"""One reader for each kind of file; the first that accepts one reads it."""

from pagedkv.doctor.readers.chrome_trace import ChromeTraceReader
from pagedkv.doctor.readers.logs import LogReader
from pagedkv.doctor.readers.nsys import NsysReader
from pagedkv.doctor.readers.reader import Reader
from pagedkv.doctor.readers.states import StateReader
from pagedkv.doctor.thresholds import LogThresholds, StateThresholds, TimelineThresholds

__all__ = ["Reader", "readers"]


def readers(
    logs: LogThresholds, states: StateThresholds, timelines: TimelineThresholds
) -> tuple[Reader, ...]:
    """The readers, none of which has read anything; the last takes whatever the others do not know."""
    return (NsysReader(timelines), ChromeTraceReader(timelines), StateReader(states), LogReader(logs))

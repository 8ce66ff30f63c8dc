"""Traces in Chrome's format, as torch.profiler (Kineto) writes them: a JSON list of events, as a stream."""

import re
from typing import Any, TypeGuard

from pagedkv.doctor.diagnosis import FileReport
from pagedkv.doctor.given import GivenFile, Unreadable
from pagedkv.doctor.readers.json_stream import ObjectStream
from pagedkv.doctor.thresholds import TimelineThresholds
from pagedkv.doctor.timeline import Timeline, findings_of, is_blocking, is_compiling, is_step, notes_of
from pagedkv.pitfalls.finding import Finding

__all__ = ["ChromeTraceReader"]

_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BARE = re.compile(rb'\s*\[\s*\{[^{}]{0,4096}"ph"\s*:')
_MOST = 1e300
_RANGES = frozenset({"user_annotation", "gpu_user_annotation", "nvtx"})
_HOST = frozenset(
    {"cuda_runtime", "cuda_driver", "python_function", "cpu_op", "user_annotation", "hip_runtime"}
)


class ChromeTraceReader:
    """Reads traces; each is looked at by itself."""

    def __init__(self, limits: TimelineThresholds) -> None:
        self._limits = limits
        self._found: list[Finding] = []

    def accepts(self, given: GivenFile) -> bool:
        """Whether it has a list of trace events."""
        head = given.head.lstrip(b"\xef\xbb\xbf \t\r\n")
        return head[:1] in (b"{", b"[") and bool(_EVENTS.search(head) or _BARE.match(head))

    def read(self, given: GivenFile) -> FileReport:
        """Read a trace.

        Raises:
            Unreadable: it has no event.
        """
        opening = r'"traceEvents"\s*:\s*\[' if _EVENTS.search(given.head) else r"\["
        timeline, stream = Timeline(given.name), ObjectStream()
        num_events = num_used = 0
        for event in stream.objects(given.blocks(), opening):
            num_events += 1
            num_used += _fold(timeline, event, num_events)
        if not num_events:
            raise Unreadable("a trace without a single event that can be read")
        self._found += findings_of(timeline, self._limits)
        cut = () if stream.is_complete else ("its list of events does not end: it was cut off",)
        return FileReport(
            file=given.name,
            kind="torch.profiler trace",
            num_bytes=given.num_bytes,
            num_read=num_events,
            num_understood=num_used,
            num_odd=stream.num_broken,
            notes=(*notes_of(timeline), *cut),
        )

    def findings(self) -> list[Finding]:
        """What the traces say."""
        return self._found


def _fold(timeline: Timeline, event: dict[str, Any], number: int) -> bool:
    """Fold one event; returns whether it says anything."""
    if event.get("ph") != "X":
        return False
    category, name = event.get("cat"), event.get("name")
    start, lasting = event.get("ts"), event.get("dur")
    if not isinstance(category, str) or not isinstance(name, str):
        return False
    if not _is_number(start) or not _is_number(lasting):
        return False
    end = start + lasting
    category = category.lower()
    arguments = event.get("args")
    arguments = arguments if isinstance(arguments, dict) else {}
    if category == "kernel":
        timeline.kernel(_device(event, arguments), start, end)
        return True
    if category == "gpu_memcpy":
        return _fold_copy(timeline, event, arguments, number, end)
    thread = (str(event.get("pid")), str(event.get("tid")))
    if category in _RANGES and category != "gpu_user_annotation" and (kind := is_step(name)):
        timeline.step(thread, kind, start, end)
        return True
    if category in _HOST:
        return _fold_call(timeline, thread, name, start, end, number)
    return False


def _fold_call(
    timeline: Timeline, thread: tuple[str, str], name: str, start: float, end: float, number: int
) -> bool:
    if is_blocking(name):
        timeline.syncs.add(thread, name, start, end, number)
    elif is_compiling(name):
        timeline.compiling.add(thread, name, start, end, number)
    else:
        return False
    return True


def _fold_copy(
    timeline: Timeline, event: dict[str, Any], arguments: dict[str, Any], number: int, end: float
) -> bool:
    name = event["name"]
    if "HtoD" not in name and "DtoH" not in name:
        return False
    size = arguments.get("bytes")
    timeline.copy(
        _device(event, arguments),
        event["ts"],
        end,
        float(size) if _is_number(size) else 0.0,
        pageable="Pageable" in name,
        number=number,
        name=name[:80],
    )
    return True


def _device(event: dict[str, Any], arguments: dict[str, Any]) -> str:
    return str(arguments.get("device", event.get("pid")))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MOST < value < _MOST

"""The lines of timing baselines, and the file beside them that says in which environment they were taken.

{"schema":"pagedkv-perf/1","kind":"timing","benchmarks":{
"tests/test_a.py::test_b": {"metric": "cpu", "history": [9.413, 9.402], "spread": 0.0113, "source": "0e0d8"}
}}
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pytest_pagedkv.baselines.envelope import (
    Line,
    Source,
    dumps,
    number_of,
    parse_lines,
    render_lines,
    schema,
)
from pytest_pagedkv.baselines.fingerprint import Fingerprint

__all__ = [
    "MAX_HISTORY",
    "TimingEntry",
    "parse_environment",
    "parse_timings",
    "relative_deviation",
    "render_environment",
    "render_timings",
    "rounded",
]

MAX_HISTORY = 10
_KIND = "timing"
_ENVIRONMENT = "environment"
_DIGITS = 4
_FIELDS = {"metric", "history", "spread", "source", "reason"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingEntry:
    """What is stored of one benchmark's time.

    Attributes:
        metric: the clock, "cpu" or "cuda".
        history: centres of at most 10 runs, oldest first: multiples of the reference workload for "cpu",
            nanoseconds for "cuda".
        spread: median distance of the last stored run's rounds from their centre, as a ratio of it.
        source: hash of the benchmark's source.
        reason: why its last change was accepted.
    """

    metric: str
    history: tuple[float, ...]
    spread: float
    source: str
    reason: str | None = None

    @property
    def centre(self) -> float:
        """The run in the middle."""
        return median(self.history)

    @property
    def deviation(self) -> float:
        """Median distance of the runs from it."""
        return relative_deviation(self.history)[1] * self.centre


def relative_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The value in the middle, and the median distance from it as a ratio of it."""
    centre = median(values)
    return centre, median(abs(each - centre) for each in values) / centre


def rounded(value: float) -> float:
    """Four significant digits, as files have them."""
    return float(f"{value:.{_DIGITS}g}")


def render_timings(entries: Mapping[str, TimingEntry]) -> str:
    """The text of a file with these entries; the same entries always give the same bytes."""
    return render_lines(_KIND, {key: _as_json(entry) for key, entry in entries.items()})


def parse_timings(data: bytes, file: str) -> dict[str, TimingEntry]:
    """Read the bytes of a baseline file.

    Args:
        data: the file's content.
        file: its name, for messages.

    Raises:
        BaselineSchemaError: names the file, the line where there is one, the fault and what to do.
    """
    return {line.key: _entry(line) for line in parse_lines(data, file, _KIND)}


def render_environment(environment: Fingerprint) -> str:
    """The text of `env.json`, one field a line."""
    parts = {"compared": environment.compared, "recorded": environment.recorded}
    body = ",\n".join(f"{dumps(name)}:{_block(fields)}" for name, fields in parts.items())
    return f'{{"schema":"{schema()}","kind":"{_ENVIRONMENT}",\n{body}\n}}\n'


def parse_environment(data: bytes, file: str) -> Fingerprint:
    """Read the bytes of `env.json`.

    Args:
        data: the file's content.
        file: its name, for messages.

    Raises:
        BaselineSchemaError: names the file, the fault and what to do.
    """
    source = Source(data, file, _ENVIRONMENT)
    top = source.top({"compared", "recorded"})
    return Fingerprint(*(_texts(source, name, top.get(name)) for name in ("compared", "recorded")))


def _block(fields: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(fields.items())), ensure_ascii=False, indent=1)


def _texts(source: Source, name: str, value: object) -> dict[str, str]:
    fields = source.mapping(value, name)
    for field, text in fields.items():
        if not isinstance(text, str):
            source.fail(f"{name} field {field!r} is {text!r}, not a string", source.line_of(field))
    return {field: str(text) for field, text in fields.items()}


def _as_json(entry: TimingEntry) -> dict[str, object]:
    fields: dict[str, object] = {
        "metric": entry.metric,
        "history": [rounded(centre) for centre in entry.history],
        "spread": rounded(entry.spread),
        "source": entry.source,
    }
    return fields if entry.reason is None else fields | {"reason": entry.reason}


def _entry(line: Line) -> TimingEntry:
    line.refuse_unknown(_FIELDS)
    return TimingEntry(
        metric=_text(line, "metric"),
        history=_history(line),
        spread=_number(line, "spread", line.value.get("spread")),
        source=_text(line, "source"),
        reason=line.optional_text("reason"),
    )


def _text(line: Line, name: str) -> str:
    value = line.optional_text(name)
    if not value:
        line.fail(f"{line.key!r} has no {name}")
    return value


def _history(line: Line) -> tuple[float, ...]:
    values = line.value.get("history")
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_HISTORY:
        line.fail(f"the history of {line.key!r} should be a list of 1 to {MAX_HISTORY} numbers")
    history = tuple(_number(line, "history", value) for value in values)
    if not all(history):
        line.fail(f"the history of {line.key!r} has a time of 0")
    return history


def _number(line: Line, name: str, value: object) -> float:
    number = number_of(value)
    if not 0 <= number < math.inf:
        line.fail(f"the {name} of {line.key!r} has {value!r:.40}, which is no time")
    return number

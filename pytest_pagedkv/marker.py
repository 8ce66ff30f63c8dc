"""The markers of tests.

@pytest.mark.pagedkv_perf(metric="cpu", threshold=0.07, group="allocator")
@pytest.mark.pagedkv_compiled("myengine.kernels:shipped", archs=(80, 90))
@pytest.mark.pagedkv_healthy(ignore=("latency_spike",))
"""

from collections import ChainMap
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pagedkv.pitfalls import Thresholds

__all__ = [
    "MARKER_LINES",
    "CompiledMark",
    "HealthyMark",
    "PerfMark",
    "compiled_mark",
    "healthy_mark",
    "perf_mark",
]

_NAME = "pagedkv_perf"
_COMPILED = "pagedkv_compiled"
_HEALTHY = "pagedkv_healthy"
_THRESHOLDS = {"cpu": 0.07, "cuda": 0.07, "wall": 0.10}
_METERS = ("python_calls",)
_PITFALLS = ("fragmentation", "cow_explosion", "batch_collapse", "offload_thrash", "latency_spike")

_PERF_LINE = (
    f'{_NAME}(metric="cpu", threshold=0.07, group=None, meters=()): a performance test, run with '
    '--pagedkv-perf. metric: "cpu" (time of the thread), "cuda" (time on the device) or "wall"; threshold: '
    "relative slowdown that counts, by default 0.07, and 0.10 for wall; group: heading in reports; meters: "
    'further exact counters, "python_calls".'
)
_COMPILED_LINE = (
    f"{_COMPILED}(provider, archs=(80, 90)): a performance test of every Triton kernel that the provider, a "
    '"module:function", describes for these architectures; the test uses the fixture pagedkv_compiled.'
)
_HEALTHY_LINE = (
    f"{_HEALTHY}(ignore=(), thresholds=None): the test fails if a pitfall is found in its engines, those of "
    "pagedkv_engine and those that pagedkv_findings watches. ignore: names of pitfalls that may be found; "
    "thresholds: a pagedkv.pitfalls.Thresholds."
)
MARKER_LINES = (_PERF_LINE, _COMPILED_LINE, _HEALTHY_LINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfMark:
    """The arguments of the marker.

    Attributes:
        metric: "cpu" for CPU time of the calling thread, "cuda" for time on the device, "wall" for what
            waits.
        threshold: relative slowdown that counts as a regression; None is the metric's own.
        group: benchmarks to show together.
        meters: what to count besides events; "python_calls" is exact for a minor version of Python.
    """

    metric: str = "cpu"
    threshold: float | None = None
    group: str | None = None
    meters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in [*_THRESHOLDS]:
            raise ValueError(
                f"metric is {self.metric!r}; it must be one of {', '.join(map(repr, _THRESHOLDS))}"
            )
        if not isinstance(self.threshold, float | None) or not 0 < self.tolerance < 1:
            raise ValueError(
                f"threshold is {self.threshold!r}; it must be a float between 0 and 1, such as 0.07"
            )
        if not isinstance(self.group, str | None) or self.group == "":
            raise ValueError(f"group is {self.group!r}; it must be a string that is not empty")
        if not isinstance(self.meters, tuple | list) or not set(self.meters) <= set(_METERS):
            raise ValueError(
                f"meters is {self.meters!r}; it must be a tuple with some of {', '.join(map(repr, _METERS))}"
            )
        object.__setattr__(self, "meters", tuple(self.meters))

    @property
    def tolerance(self) -> float:
        """The threshold that counts."""
        return _THRESHOLDS[self.metric] if self.threshold is None else self.threshold


def perf_mark(item: pytest.Item) -> PerfMark | None:
    """The marker of a test, or None. Markers of module, class and function add up, the closest wins.

    A test of compiled kernels needs no other marker.

    Raises:
        pytest.UsageError: an argument is unknown or has the wrong type; names the test.
    """
    marks = list(item.iter_markers(_NAME))
    if not marks:
        return None if compiled_mark(item) is None else PerfMark()
    arguments = _named(item, marks, PerfMark)
    try:
        return PerfMark(**arguments)
    except ValueError as error:
        raise pytest.UsageError(f"{item.nodeid}: {_NAME}: {error}") from error


@dataclass(frozen=True, slots=True)
class CompiledMark:
    """The arguments of the marker of compiled kernels.

    Attributes:
        provider: "module:function" that describes variants; see `pytest_pagedkv.compiler.variant`.
        archs: architectures to compile for, 90 for sm_90.
    """

    provider: str
    archs: tuple[int, ...] = (80, 90)

    def __post_init__(self) -> None:
        if not isinstance(self.provider, str):
            raise ValueError(f"provider is {self.provider!r}; it must be a string, module:function")  # noqa: TRY004
        archs = self.archs
        if not (isinstance(archs, tuple | list) and archs and all(isinstance(arch, int) for arch in archs)):
            raise ValueError(f"archs is {archs!r}; it must be a tuple of numbers, such as (80, 90)")
        object.__setattr__(self, "archs", tuple(archs))


def compiled_mark(node: pytest.Item) -> CompiledMark | None:
    """The closest marker of compiled kernels, or None.

    Raises:
        pytest.UsageError: an argument is unknown or has the wrong type; names the test.
    """
    mark = node.get_closest_marker(_COMPILED)
    if mark is None:
        return None
    try:
        return CompiledMark(*mark.args, **mark.kwargs)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{node.nodeid}: {_COMPILED}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthyMark:
    """The arguments of the marker of tests whose engines have to be healthy.

    Attributes:
        ignore: names of pitfalls that may be found.
        thresholds: above which numbers detectors speak; None for the usual ones.
    """

    ignore: tuple[str, ...] = ()
    thresholds: "Thresholds | None" = None

    def __post_init__(self) -> None:
        if not isinstance(self.ignore, tuple | list) or not set(self.ignore) <= set(_PITFALLS):
            raise ValueError(
                f"ignore is {self.ignore!r}; it must be a tuple with some of "
                f"{', '.join(map(repr, _PITFALLS))}"
            )
        object.__setattr__(self, "ignore", tuple(self.ignore))
        if self.thresholds is not None and type(self.thresholds).__name__ != "Thresholds":
            raise ValueError(
                f"thresholds is {self.thresholds!r:.60}; it must be a pagedkv.pitfalls.Thresholds"
            )


def healthy_mark(item: pytest.Item) -> HealthyMark | None:
    """The marker of a test whose engines have to be healthy, or None; the closest wins, argument by argument.

    Raises:
        pytest.UsageError: an argument is unknown or has the wrong type; names the test.
    """
    marks = list(item.iter_markers(_HEALTHY))
    if not marks:
        return None
    arguments = _named(item, marks, HealthyMark)
    try:
        return HealthyMark(**arguments)
    except ValueError as error:
        raise pytest.UsageError(f"{item.nodeid}: {_HEALTHY}: {error}") from error


def _named(
    item: pytest.Item, marks: "list[pytest.Mark]", kind: type[HealthyMark | PerfMark]
) -> dict[str, Any]:
    """The arguments of markers of the same name; those of the first one win.

    Raises:
        pytest.UsageError: one is unknown, or has no name.
    """
    known = [field.name for field in fields(kind)]
    arguments = dict(ChainMap(*(dict(mark.kwargs) for mark in marks)))
    unknown = sorted(arguments.keys() - set(known))
    if unknown or any(mark.args for mark in marks):
        what = f"unknown argument {unknown[0]!r}" if unknown else "positional arguments"
        raise pytest.UsageError(
            f"{item.nodeid}: {marks[0].name} has {what}; it takes {', '.join(known)}, by name"
        )
    return arguments

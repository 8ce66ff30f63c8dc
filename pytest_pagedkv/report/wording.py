"""Numbers as people read them: durations, relative changes, and the evidence on one benchmark in words."""

import math
from collections.abc import Iterator, Mapping

from pytest_pagedkv.baselines import Difference, Verdict
from pytest_pagedkv.report.runfile import Benchmark, Run
from pytest_pagedkv.report.timings import Duet, Stored

__all__ = [
    "change_of",
    "duration",
    "evidence",
    "interval",
    "moved",
    "percent",
    "shown_duration",
    "significant",
    "smallest_detectable",
]

_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_LEAST_SHOWN = 0.005
"""Meters that moved by less are left out of the evidence, which is about what to look at."""


def significant(value: float) -> str:
    """Three digits, without an exponent where a person would write none."""
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    rounded = float(f"{value:.2e}")
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded if decimals else value:.{decimals}f}"


def duration(nanoseconds: float, *, space: str = "", micro: str = "u") -> str:
    """Three digits and a unit, such as "652us"."""
    size, unit = next((each for each in _UNITS if nanoseconds >= each[0] * 0.9995), _UNITS[-1])
    return f"{significant(nanoseconds / size)}{space}{unit.replace('u', micro)}"


def shown_duration(nanoseconds: float) -> str:
    """Three digits, a space and a unit, for a page: such as "652 \N{MICRO SIGN}s"."""
    return duration(nanoseconds, space="\N{NO-BREAK SPACE}", micro="\N{MICRO SIGN}")


def percent(change: float, *, sign: bool = True) -> str:
    """A relative change in percent: one decimal below 100%, none above."""
    decimals = 1 if abs(change) < 0.9995 else 0
    value = round(change * 100, decimals) + 0.0  # no negative zero
    shown = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    return f"{shown.removesuffix('.0') if not sign else shown}%"


def interval(low: float | None, high: float | None) -> str:
    """Both ends in percent, as the terminal writes them: "[+10.8, +13.5]"; "" if one is unknown."""
    if low is None or high is None:
        return ""
    return f"[{percent(low).removesuffix('%')}, {percent(high).removesuffix('%')}]"


def evidence(benchmark: Benchmark) -> tuple[str, ...]:
    """What the clocks say, strongest first; empty if nothing was timed against anything."""
    lines = []
    if benchmark.duet is not None and (line := _duet(benchmark.duet)):
        lines.append(line)
    if benchmark.stored is not None and (line := _stored(benchmark.stored)):
        lines.append(line)
    return tuple(lines)


def moved(benchmark: Benchmark) -> tuple[str, ...]:
    """The counters and meters that moved, one a string, worst first."""
    found = [*benchmark.details, *_moved_against_base(benchmark), *_moved_meters(benchmark.duet)]
    return tuple(dict.fromkeys(found))


def change_of(difference: Difference) -> str:
    """How a counter moved: in percent, where there is something to compare with, and which way that is."""
    before, after, verdict = difference.before, difference.after, difference.verdict
    words = [percent(after / before - 1)] if before and after is not None else []
    if verdict is not Verdict.CHANGED or not words:
        words.append(str(verdict))
    return ", ".join(words)


def smallest_detectable(run: Run) -> dict[str, float]:
    """By metric, the threshold above which a change of time is found here: the highest of all benchmarks."""
    found: dict[str, float] = {}
    for duet in (benchmark.duet for benchmark in run.benchmarks):
        is_judged = duet is not None and duet.effect is not None and duet.verdict != Verdict.NOISY
        if duet is not None and is_judged and duet.threshold is not None:
            found[duet.metric] = max(duet.threshold, found.get(duet.metric, 0.0))
    return dict(sorted(found.items()))


def _duet(duet: Duet) -> str:
    if duet.effect is None:
        return f"not compared: {duet.detail}" if duet.detail else ""
    ends = interval(duet.low, duet.high)
    limit = "" if duet.threshold is None else f"(T {percent(duet.threshold, sign=False)})"
    told = " ".join(part for part in (percent(duet.effect), ends, limit) if part)
    if duet.accepted is not None:
        told += f", {percent(duet.accepted)} accepted: {duet.reason}"
    return f"{told}, {duet.detail}" if duet.detail else told


def _stored(stored: Stored) -> str:
    if stored.verdict in ("", Verdict.SAME, Verdict.NEW):
        return ""
    told = stored.detail or (stored.ratio and percent(stored.ratio - 1)) or stored.verdict
    return f"{told} against stored timings" + ("" if stored.is_gated else ", advisory")


def _moved_against_base(benchmark: Benchmark) -> Iterator[str]:
    """Counters that differ from the base commit, if that is not what the stored baseline says already."""
    if benchmark.duet is None or benchmark.duet.base_counters is None or benchmark.counters is None:
        return
    told = frozenset(benchmark.details)
    suffix = "" if benchmark.baseline is None else " against base"
    for difference in map(str, _differences(benchmark.duet.base_counters, benchmark.counters)):
        yield difference if difference in told else difference + suffix


def _differences(before: Mapping[str, int], after: Mapping[str, int]) -> list[Difference]:
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    found = [Difference(name, before.get(name), after.get(name)) for name in names]
    return sorted(found, key=lambda each: (each.verdict is not Verdict.WORSE, each.name))


def _moved_meters(duet: Duet | None) -> Iterator[str]:
    """Those that moved by enough to look at."""
    for name, (base, head) in sorted(duet.meters.items() if duet else ()):
        if abs(head - base) > _LEAST_SHOWN * abs(base):
            difference = Difference(name, base, head)
            yield f"{name} {base} -> {head} ({change_of(difference)})"

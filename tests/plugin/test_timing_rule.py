"""What a run says against its stored history, and what an update makes of that."""

import pytest

from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.timing import StoredResult, TimedRun, judge_timing, tolerance_of, updated
from pytest_pagedkv.baselines.timing_schema import TimingEntry

STEADY = (9.9, 9.95, 10.0, 10.05, 10.1)


def run(centre: float, **changes: object) -> TimedRun:
    """A run with this centre."""
    return TimedRun(**{"metric": "cpu", "centre": centre, "spread": 0.01, "source": "abc"} | changes)


def entry(*history: float, **changes: object) -> TimingEntry:
    """A stored history."""
    return TimingEntry(**{"metric": "cpu", "history": history, "spread": 0.01, "source": "abc"} | changes)


def judged(centre: float, *history: float, threshold: float = 0.07) -> tuple[str, bool]:
    """Verdict, and whether it fails."""
    result = judge_timing(run(centre), entry(*history), threshold)
    return result.verdict, result.fails


@pytest.mark.parametrize(
    ("centre", "history", "expected"),
    [
        (10.9, STEADY, ("same", False)),
        (11.1, STEADY, ("worse", False)),
        (12.1, STEADY, ("worse", True)),
        (9.2, STEADY, ("same", False)),
        (9.0, STEADY, ("better", False)),
        (5.0, STEADY, ("better", False)),
        (12.1, (10.0,) * 4, ("worse", False)),
        (12.1, (8.0, 9.0, 10.0, 11.0, 12.0), ("same", False)),
        (13.1, (8.0, 9.0, 10.0, 11.0, 12.0), ("worse", True)),
    ],
)
def test_worse_is_beyond_the_deviation_and_the_tolerance(
    centre: float, history: tuple[float, ...], expected: tuple[str, bool]
) -> None:
    """Three deviations and half the tolerance for the word, the whole of it and five runs for a failure."""
    assert judged(centre, *history) == expected


def test_marker_and_spread_can_only_widen_the_tolerance() -> None:
    """A stored time is never finer than 20%, nor than its rounds; a benchmark may be coarser."""
    assert (tolerance_of(0.07), tolerance_of(0.5), tolerance_of(0.07, 0.1)) == (0.2, 0.5, 0.3)
    assert judged(14, *STEADY, threshold=0.5) == ("worse", False)
    assert judged(16, *STEADY, threshold=0.5) == ("worse", True)
    noisy = judge_timing(run(12.5, spread=0.1), entry(*STEADY), 0.07)
    assert (noisy.verdict, noisy.fails, noisy.tolerance) == (Verdict.WORSE, False, 0.3)


def test_what_cannot_be_compared_is_named() -> None:
    """No history is new; another source or another clock is incomparable; a GPU's time only advises."""
    assert judge_timing(run(1), None, 0.07).verdict is Verdict.NEW
    other = judge_timing(run(10), entry(10, source="def"), 0.07)
    clock = judge_timing(run(10), entry(10, metric="cuda"), 0.07)
    gpu = judge_timing(run(90, metric="cuda"), entry(*STEADY, metric="cuda"), 0.07)

    assert (other.verdict, other.detail) == (Verdict.INCOMPARABLE, "its source changed since it was stored")
    assert (clock.verdict, clock.detail) == (Verdict.INCOMPARABLE, "metric cpu here, cuda in the baseline")
    assert (other.ratio, other.history, other.fails) == (None, (), False)
    assert (gpu.verdict, gpu.fails) == (Verdict.WORSE, False)


def test_a_difference_is_told_in_a_line() -> None:
    """Both centres, the change, the history that it was compared with, and the tolerance."""
    result = judge_timing(run(13.1), entry(*STEADY), 0.07)

    assert result.detail == "stored cpu 10 -> 13.1  +31% (5 runs at 9.9..10.1, T 20%)"
    assert judge_timing(run(10.05), entry(*STEADY), 0.07).detail == ""
    assert StoredResult.from_plain(result.as_plain()) == result


def update(centre: float, before: TimingEntry | None, reason: str | None = None) -> TimingEntry | None:
    """What is stored after a run."""
    return updated(before, judge_timing(run(centre), before, 0.07), reason)


def test_a_history_fills_up_and_then_rests() -> None:
    """Ten runs are kept; from then on only one that is further away than half the tolerance is taken in."""
    stored = None
    for _ in range(10):
        stored = update(10, stored)
    wide = entry(*[8.0, 12.0] * 5)

    assert stored is not None
    assert stored.history == (10.0,) * 10
    assert update(10.4, stored) is stored
    assert update(10.4, wide) is wide
    assert update(11.5, wide) == entry(*wide.history[1:], 11.5)


def test_four_digits_are_stored() -> None:
    """Times and spreads are rounded, so that a file does not pretend."""
    stored = update(1.23456789, None)

    assert stored is not None
    assert (stored.history, stored.spread) == ((1.235,), 0.01)


def test_a_slow_run_does_not_become_its_own_baseline() -> None:
    """Worse is stored with a reason only, whether it fails or advises, and then begins a new history."""
    before = entry(*STEADY, reason="once")

    assert update(13, before) is before
    assert update(11.5, before) is before
    assert update(13, before, "checks more") == entry(13.0, reason="checks more")
    assert update(5, before) == entry(5.0)


def test_another_source_begins_again() -> None:
    """What was stored of other code or of another clock is dropped."""
    assert update(10, entry(*STEADY, source="old")) == entry(10.0)
    assert update(10, entry(*STEADY, metric="cuda")) == entry(10.0)
    assert update(10.05, entry(*STEADY, reason="why")) == entry(*STEADY, 10.05, reason="why")


def test_without_a_time_nothing_is_stored() -> None:
    """A run that could not be timed leaves what is there."""
    before = entry(*STEADY)

    assert updated(before, StoredResult(verdict=Verdict.NOISY, tolerance=0.2)) is before
    assert updated(None, StoredResult(verdict=Verdict.NOISY, tolerance=0.2)) is None

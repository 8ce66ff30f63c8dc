"""The decision rule of duet-confirm: what the screening passes, and what four fresh pairs make of it."""

from math import exp, log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.baselines.duet import DuetResult, Pair, is_suspicious, judge_duet

_THRESHOLD = 0.07

ratios = st.floats(-0.5, 0.5, allow_nan=False)


def pair(*log_ratios: float) -> Pair:
    """A pair with these rounds, of a base that takes a microsecond."""
    return Pair(
        hash_seed="0",
        base_ns=(1000.0,) * len(log_ratios),
        head_ns=tuple(1000.0 * exp(each) for each in log_ratios),
    )


def verdict(*medians: float) -> Verdict | None:
    """What confirming pairs with these effects are judged."""
    pairs = [pair(*[log1p(each)] * 9) for each in medians]
    result = judge_duet(pairs[0], pairs, metric="cpu", threshold=_THRESHOLD, num_calls=1)
    return result.judgement and result.judgement.verdict


@pytest.mark.parametrize(
    ("effect", "expected"), [(0.041, False), (0.042, True), (-0.039, False), (-0.041, True)]
)
def test_the_screening_passes_what_is_below_six_tenths_of_the_threshold(
    effect: float, expected: bool
) -> None:
    """On the scale of log ratios, 0.6 of 7% are 4.14% more and 3.98% less."""
    assert is_suspicious(pair(*[log1p(effect)] * 5), _THRESHOLD) is expected


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ((0.08, 0.08, 0.08, 0.08), Verdict.WORSE),
        ((0.08, 0.08, 0.08, 0.0), Verdict.WORSE),
        ((0.08, 0.08, 0.03, 0.0), Verdict.SAME),
        ((0.10, 0.10, 0.03, 0.03), Verdict.SAME),
        ((0.06, 0.06, 0.06, 0.06), Verdict.SAME),
        ((-0.08, -0.08, -0.08, 0.0), Verdict.BETTER),
        ((-0.06, -0.06, -0.06, -0.06), Verdict.SAME),
        ((0.20, 0.20, 0.20, 0.0), Verdict.NOISY),
        ((0.10, 0.10, -0.10, -0.10), Verdict.NOISY),
        ((0.60, 0.40, 0.30, 0.20), Verdict.WORSE),
        ((0.05, 0.22, 0.21, 0.23), Verdict.WORSE),
        ((0.03, 0.22, 0.21, 0.23), Verdict.NOISY),
        ((0.04, 0.04, 0.05, 0.30), Verdict.SAME),
        ((-0.40, -0.30, -0.20, -0.10), Verdict.BETTER),
    ],
)
def test_the_verdict_of_four_pairs(medians: tuple[float, ...], expected: Verdict) -> None:
    """Median beyond T, three beyond T/2; pairs over 2T apart say nothing unless all are beyond T/2."""
    assert verdict(*medians) is expected


@given(st.lists(ratios, min_size=4, max_size=4))
def test_improvements_mirror_regressions(effects: list[float]) -> None:
    """Base and head exchanged: worse becomes better, and everything else stays."""
    mirrored = {Verdict.WORSE: Verdict.BETTER, Verdict.BETTER: Verdict.WORSE}
    there = verdict(*(exp(each) - 1 for each in effects))
    back = verdict(*(exp(-each) - 1 for each in effects))
    assert back is mirrored.get(there, there)


@given(st.lists(st.floats(log1p(_THRESHOLD) + 1e-6, 0.6), min_size=4, max_size=4))
def test_what_all_pairs_see_is_never_passed(effects: list[float]) -> None:
    """Four pairs beyond the threshold are a regression, however far apart they are."""
    assert verdict(*(exp(each) - 1 for each in effects)) is Verdict.WORSE


@given(st.lists(ratios, min_size=1, max_size=40))
def test_the_interval_holds_the_median(rounds: list[float]) -> None:
    """Of any sample, and it is within the sample."""
    low, high = pair(*rounds).interval()
    sampled = pair(*rounds)
    assert min(sampled.log_ratios) <= low <= sampled.median + 1e-12
    assert sampled.median - 1e-12 <= high <= max(sampled.log_ratios)


def test_the_interval_of_thirty_rounds_is_that_of_the_sign_test() -> None:
    """The 10th and the 21st of 30 rounds: 95% confidence (binomial, exactly 95.7%)."""
    low, high = pair(*(each / 100 for each in range(30))).interval()
    assert (low, high) == (pytest.approx(0.09), pytest.approx(0.20))


@given(st.lists(ratios, min_size=4, max_size=4), st.booleans())
def test_a_result_travels(effects: list[float], is_confirmed: bool) -> None:
    """To pytest-xdist's workers and back, in plain types."""
    pairs = [pair(*[each] * 3) for each in effects]
    result = judge_duet(
        pairs[0], pairs if is_confirmed else [], metric="cpu", threshold=0.07, num_calls=3, counters={"a": 1}
    )
    assert DuetResult.from_plain(result.as_plain()) == result

"""Run files that are old, cut short, or made to do harm."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.report.axis import Scale, quantile, robust_range
from pytest_pagedkv.report.annotations import annotations
from pytest_pagedkv.report.markdown import comment
from pytest_pagedkv.report.page import render_page
from pytest_pagedkv.report.runfile import Run
from pytest_pagedkv.report.status import Status, status
from pytest_pagedkv.report.wording import duration, percent, significant
from tests.report.runs import benchmark, failed, failing_run, run_file, stored, timing

JUNK: list[Any] = [
    *(None, True, 0, -1, 1e308, -1e308, 5e-324, math.nan, math.inf, 10**400, 1e18, -0.0),
    *("", "x", "\ud800", [], {}, [None], [1, 2], {"a": 1}, [1e18, 1e-9], [0.0], [{}], {"stage": "confirm"}),
]


def spoiled(value: Any, dice: random.Random) -> Any:
    """The same with something else here and there."""
    if dice.random() < 0.04:
        return dice.choice(JUNK)
    if isinstance(value, dict):
        return {key: spoiled(each, dice) for key, each in value.items() if dice.random() > 0.02}
    return [spoiled(each, dice) for each in value] if isinstance(value, list) else value


@given(st.integers(0, 2**32))
def test_whatever_is_in_the_file_there_is_a_report(seed: int) -> None:
    """What is absent or of a wrong type is left out; no number in a plot is none."""
    whole = run_file(failed(stored=stored(), timing=timing()), benchmark(timing=timing()))
    dice = random.Random(seed)  # noqa: S311 # not a secret
    run = {key: spoiled(each, dice) for key, each in whole.items()}

    page = render_page(run)
    page.encode()
    comment(run).encode()
    annotations(run)
    assert '="nan' not in page
    assert '="inf' not in page


def test_the_first_version_of_the_file_is_read() -> None:
    """It had neither `failed_gate` nor comparisons of time: a difference in a failed call was the gate's."""
    old = {"outcomes": {"call": "failed"}, "verdict": "changed", "details": ["rows 1 -> 2 (changed)"]}
    run = Run.from_plain({"benchmarks": {"a": old, "b": {"outcomes": {"call": "passed"}, "verdict": "same"}}})

    assert [status(each) for each in run.benchmarks] == [Status.FAILED, Status.SAME]


def test_nothing_is_lost_on_the_way() -> None:
    """The samples of a duet come back as they are in the file."""
    plain = failing_run()
    run = Run.from_plain(plain)

    for each in run.benchmarks:
        pairs = (plain["benchmarks"][each.key]["duet"] or {}).get("pairs", [])
        assert [pair["head_ns"] for pair in pairs] == [
            list(pair.head_ns) for pair in (each.duet.pairs if each.duet else ())
        ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"failed_gate": True}, Status.FAILED),
        ({"outcomes": {"setup": "passed", "call": "passed", "teardown": "failed"}}, Status.BROKEN),
        ({"outcomes": {"setup": "skipped"}}, Status.NOT_RUN),
        ({"outcomes": {"call": "xfailed"}}, Status.NOT_RUN),
        ({"verdict": "worse"}, Status.DIFFERENT),
        ({"verdict": "too noisy"}, Status.NOISY),
        ({"verdict": "better"}, Status.IMPROVED),
        ({"verdict": None}, Status.UNJUDGED),
        ({"verdict": "a word of tomorrow"}, Status.DIFFERENT),
    ],
)
def test_each_benchmark_has_one_status(changes: dict[str, Any], expected: Status) -> None:
    """The gate's failure first, then other failures, then what did not run, then the verdict."""
    (found,) = Run.from_plain(run_file(benchmark(**changes))).benchmarks

    assert status(found) is expected


@pytest.mark.parametrize(
    ("nanoseconds", "told"),
    [
        (0.5, "0.500ns"),
        (652_000, "652us"),
        (999_700, "1.00ms"),
        (8.42e6, "8.42ms"),
        (61e9, "61.0s"),
        (0, "0ns"),
    ],
)
def test_durations_have_three_digits(nanoseconds: float, told: str) -> None:
    """And the unit in which a person would say them."""
    assert duration(nanoseconds) == told


@pytest.mark.parametrize(
    ("change", "told"), [(0.121, "+12.1%"), (-0.0001, "+0.0%"), (-0.083, "-8.3%"), (12.1, "+1210%")]
)
def test_changes_are_in_percent(change: float, told: str) -> None:
    """One decimal, as more would promise too much."""
    assert percent(change) == told


@pytest.mark.parametrize(
    ("value", "told"), [(9.4, "9.40"), (123.4, "123"), (0.01, "0.0100"), (1234.0, "1234"), (1e9, "1e+09")]
)
def test_numbers_have_three_digits(value: float, told: str) -> None:
    """Exponents only where they are needed."""
    assert significant(value) == told


@given(st.lists(st.floats(-1e18, 1e18), max_size=40), st.lists(st.floats(-1e18, 1e18), max_size=3))
def test_a_scale_has_what_must_be_on_it(values: list[float], include: list[float]) -> None:
    """Its ends differ, what must be included is to scale, ticks increase, edges hold the rest."""
    scale = Scale(*robust_range(values, include), 500, 0)

    assert scale.low < scale.high
    assert not any(map(scale.is_off, include))
    ticks = scale.ticks()
    assert ticks == sorted(ticks)
    assert len(ticks) <= 8
    assert all(0 <= scale(value) <= 500 for value in values)


def test_most_of_what_is_measured_is_to_scale() -> None:
    """Only what is far from the middle half lies beyond."""
    values = [float(value) for value in range(100)] + [1000.0]
    scale = Scale(*robust_range(values), 0, 1)

    assert [value for value in values if scale.is_off(value)] == [1000.0]


@pytest.mark.parametrize(
    ("values", "part", "expected"), [([3.0], 0.25, 3.0), ([1, 2], 0.5, 1.5), ([4, 1, 2, 3], 1, 4)]
)
def test_quantiles_lie_between_neighbours(values: list[float], part: float, expected: float) -> None:
    """One value is all its quantiles."""
    assert quantile(values, part) == expected

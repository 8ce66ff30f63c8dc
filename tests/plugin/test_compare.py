"""Verdicts on single benchmarks."""

import pytest

from pytest_pagedkv.baselines import Difference, Entry, Verdict, judge
from pytest_pagedkv.perf.controller import exit_code


@pytest.mark.parametrize(
    ("before", "after", "verdict", "details"),
    [
        ({"a": 1}, {"a": 1}, Verdict.SAME, []),
        ({"cow_copies": 3}, {"cow_copies": 1}, Verdict.BETTER, ["cow_copies 3 -> 1 (better)"]),
        ({"tokens_reused": 3}, {"tokens_reused": 1}, Verdict.WORSE, ["tokens_reused 3 -> 1 (worse)"]),
        ({}, {"cow_copies": 128}, Verdict.WORSE, ["cow_copies 0 -> 128 (worse)"]),
        ({"hit_blocks": 9}, {}, Verdict.WORSE, ["hit_blocks 9 -> 0 (worse)"]),
        ({"rows": 1}, {"rows": 2}, Verdict.CHANGED, ["rows 1 -> 2 (changed)"]),
        ({"rows": 1}, {}, Verdict.CHANGED, ["rows 1 -> absent (changed)"]),
        ({"evictions": 0}, {}, Verdict.CHANGED, ["evictions 0 -> absent (changed)"]),
    ],
)
def test_any_inequality_has_a_verdict(
    before: dict[str, int], after: dict[str, int], verdict: Verdict, details: list[str]
) -> None:
    """Equal counters are the same; a known name tells the direction, any other has changed."""
    judgement = judge(after, Entry(before))

    assert (judgement.verdict, list(judgement.details)) == (verdict, details)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ({"evictions": 1, "hits": 9, "rows": 1}, Verdict.BETTER),
        ({"evictions": 1, "hits": 1, "rows": 1}, Verdict.WORSE),
        ({"evictions": 1, "hits": 5, "rows": 2}, Verdict.CHANGED),
    ],
)
def test_the_worst_counter_decides(after: dict[str, int], verdict: Verdict) -> None:
    """One worse counter makes the benchmark worse, and is told first; better means that all are."""
    judgement = judge(after, Entry({"evictions": 5, "hits": 5, "rows": 1}))

    assert judgement.verdict is verdict
    assert judgement.details[0].endswith(f"({verdict})")


def test_without_baseline_it_is_new() -> None:
    """A benchmark that is stored nowhere is new, whatever it counted."""
    assert judge({"a": 1}, None).verdict is Verdict.NEW


@pytest.mark.parametrize("name", ["hit_copies", "rehit", "copies2", "batch_size_max"])
def test_a_name_that_tells_no_direction_has_changed(name: str) -> None:
    """Directions are read off whole words, and contradicting words off none."""
    assert Difference(name, 1, 2).verdict is Verdict.CHANGED


def test_exit_codes_have_an_order() -> None:
    """Nondeterminism outweighs missing baselines, which outweigh regressions."""
    worse, missing, luck = Verdict.WORSE, Verdict.MISSING, Verdict.NONDETERMINISTIC

    assert exit_code([worse, Verdict.BETTER]) == 10
    assert exit_code([worse, missing]) == 11
    assert exit_code([worse, Verdict.INCOMPARABLE]) == 11
    assert exit_code([worse, missing, luck]) == 12

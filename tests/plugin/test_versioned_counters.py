"""Counters that belong to a minor version of Python."""

import sys

from pytest_pagedkv.baselines import Entry, Verdict, judge
from pytest_pagedkv.baselines.versioned import comparable, kept, versioned

HERE = versioned("python_calls")
OTHER = "python_calls_py399"


def test_a_name_ends_in_the_version() -> None:
    """Major and minor number of this Python."""
    assert f"python_calls_py{sys.version_info.major}{sys.version_info.minor}" == HERE


def test_counters_of_another_python_are_not_compared() -> None:
    """What is stored for another version neither differs nor is missed; of this one all counts."""
    assert judge({HERE: 5, "n": 1}, Entry({HERE: 5, OTHER: 9, "n": 1})).verdict is Verdict.SAME
    assert judge({HERE: 5, "n": 1}, Entry({OTHER: 9, "n": 1})).verdict is Verdict.SAME
    assert judge({HERE: 6}, Entry({HERE: 5, OTHER: 9})).details == (f"{HERE} 5 -> 6 (worse)",)
    assert judge({HERE: 6}, Entry({"n": 1})).verdict is Verdict.CHANGED
    assert judge({}, Entry({HERE: 5})).verdict is not Verdict.SAME


def test_those_are_kept() -> None:
    """An update of this version stores the others' counters as they are."""
    before = {HERE: 5, OTHER: 9, "n": 1, "happy": 3}

    assert kept(before) == {OTHER: 9}
    assert comparable(before, {HERE: 6, "n": 1}) == {HERE: 5, "n": 1, "happy": 3}

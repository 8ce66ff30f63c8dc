"""What earlier runs counted: files, and how this run compares with them."""

from pytest_pagedkv.baselines.compare import Difference, Judgement, Verdict, judge
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.second_count import SecondPass, hash_seed
from pytest_pagedkv.baselines.stale import Collected, stale_keys
from pytest_pagedkv.baselines.store import Baselines

__all__ = [
    "Baselines",
    "Collected",
    "Difference",
    "Entry",
    "Judgement",
    "SecondPass",
    "Verdict",
    "hash_seed",
    "judge",
    "stale_keys",
]

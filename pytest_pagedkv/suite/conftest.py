"""What the shipped performance tests share."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pagedkv import BlockManager

Shape = Callable[["BlockManager"], dict[str, int]]


@pytest.fixture
def rng(pagedkv_seed: int) -> random.Random:
    """Random numbers that are the same in every process, whatever its hash seed."""
    return random.Random(pagedkv_seed)  # noqa: S311 - a workload has to repeat, not to be secret


@pytest.fixture
def shape() -> Shape:
    """Gives the integers that say how scattered and how wasteful a cache is now."""

    def of(cache: "BlockManager") -> dict[str, int]:
        told = cache.fragmentation()
        return {
            "free_run_max": told.longest_free_run,
            "free_runs": told.num_free_runs,
            "table_runs": told.num_table_runs,
            "wasted_slots": told.num_wasted_slots,
        }

    return of

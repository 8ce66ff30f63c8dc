"""Faults planted into the reference cache, by the part that they are planted in."""

from pytest_pagedkv.conformance.cache.selftest.faults.answers import ANSWERS
from pytest_pagedkv.conformance.cache.selftest.faults.complexity import COMPLEXITY
from pytest_pagedkv.conformance.cache.selftest.faults.copy_on_write import COPY_ON_WRITE
from pytest_pagedkv.conformance.cache.selftest.faults.counts import COUNTS
from pytest_pagedkv.conformance.cache.selftest.faults.eviction import EVICTION
from pytest_pagedkv.conformance.cache.selftest.faults.failure_path import FAILURE_PATH
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Fault
from pytest_pagedkv.conformance.cache.selftest.faults.hashing import HASHING
from pytest_pagedkv.conformance.cache.selftest.faults.hits import HITS
from pytest_pagedkv.conformance.cache.selftest.faults.ids import IDS
from pytest_pagedkv.conformance.cache.selftest.faults.namespaces import NAMESPACES
from pytest_pagedkv.conformance.cache.selftest.faults.ref_counts import REF_COUNTS
from pytest_pagedkv.conformance.cache.selftest.faults.reset import RESET
from pytest_pagedkv.conformance.cache.selftest.faults.swap import SWAP
from pytest_pagedkv.conformance.cache.selftest.faults.truncation import TRUNCATION

__all__ = ["FAULTS", "Fault"]

FAULTS: tuple[Fault, ...] = (
    *HASHING,
    *NAMESPACES,
    *HITS,
    *EVICTION,
    *REF_COUNTS,
    *COPY_ON_WRITE,
    *TRUNCATION,
    *FAILURE_PATH,
    *IDS,
    *SWAP,
    *RESET,
    *COUNTS,
    *ANSWERS,
    *COMPLEXITY,
)
"""Every fault."""

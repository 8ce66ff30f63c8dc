"""Planted faults: the suite sees each by the invariant that names its class, and nothing in a sound cache."""

import pytest
from hypothesis import settings

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.invariants import INVARIANTS
from pytest_pagedkv.conformance.cache.search import search
from pytest_pagedkv.conformance.cache.selftest.faults import FAULTS, Fault
from pytest_pagedkv.conformance.cache.selftest.faults.bases import EagerCache, TrustingCache
from pytest_pagedkv.conformance.cache.selftest.planting import plant, quick
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

SOUND = [ReferenceCache, EagerCache, TrustingCache]
each_fault = pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])


@each_fault
def test_it_is_seen(fault: Fault) -> None:
    """By its own invariant."""
    violation = plant(fault)
    assert violation is not None
    assert violation.invariant == fault.invariant, str(violation)


@each_fault
def test_it_is_one(fault: Fault) -> None:
    """A few methods of a sound cache are others, and a sentence says what they get wrong."""
    base = fault.adapter_class.__base__
    assert base in SOUND
    overridden = [name for name, value in vars(fault.adapter_class).items() if callable(value)]
    assert overridden
    assert all(getattr(base, name) is not getattr(fault.adapter_class, name) for name in overridden)
    assert fault.plants.endswith(".")


def test_they_are_distinct() -> None:
    """No name and no class comes twice, and every invariant is broken by some."""
    assert (
        len({fault.name for fault in FAULTS}) == len({fault.adapter_class for fault in FAULTS}) == len(FAULTS)
    )
    assert {fault.invariant for fault in FAULTS} == set(INVARIANTS)


@pytest.mark.parametrize("cache", SOUND)
def test_nothing_is_seen_in_a_sound_cache(cache: type[KVCacheAdapter]) -> None:
    """Where a fault is found after some hundred calls, they have had thousands."""
    reached = search(cache, settings=settings(quick(), max_examples=60), seed=0)
    assert reached.operations > 2_000


def test_nothing_is_seen_in_the_reference_with_a_weak_hash() -> None:
    """It compares tokens."""
    search(ReferenceCache, settings=settings(quick(), max_examples=60), seed=0, hash_bits=2)

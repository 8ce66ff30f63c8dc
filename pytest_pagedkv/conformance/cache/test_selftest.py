"""The suite on itself: it sees every planted fault, and nothing in a sound cache."""

import pytest

from pytest_pagedkv.conformance.cache.search import search
from pytest_pagedkv.conformance.cache.selftest.faults import FAULTS, Fault
from pytest_pagedkv.conformance.cache.selftest.planting import plant, quick
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache


@pytest.fixture(autouse=True)
def asked_for(request: pytest.FixtureRequest) -> None:
    """Skip unless the option is given: this tests the suite, and no adapter."""
    if not request.config.getoption("pagedkv_selftest_faults"):
        pytest.skip("tests the suite itself: needs --pagedkv-selftest-faults")


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_fault_is_seen(fault: Fault) -> None:
    """A correct cache with one fault breaks the invariant that names the class of the fault."""
    violation = plant(fault)
    if violation is None:
        pytest.fail(f"not seen: {fault.plants}", pytrace=False)
    if violation.invariant != fault.invariant:
        pytest.fail(f"{fault.plants} It breaks {fault.invariant}, and was seen as {violation}", pytrace=False)


def test_sound_cache_passes() -> None:
    """The cache that the faults are planted into breaks nothing."""
    search(ReferenceCache, settings=quick(), seed=0)

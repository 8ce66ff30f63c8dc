"""Each planted fault is found, by the invariant that names its class."""

import pytest

from pytest_pagedkv.conformance.scheduler.invariants import INVARIANTS
from pytest_pagedkv.conformance.violation import InvariantViolation
from tests.conformance.planting import Fault
from tests.conformance.scheduler.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.adapter.__name__)
def test_fault_is_found(fault: Fault, fresh_search: None) -> None:
    """The suite names the fault's class."""
    with pytest.raises(InvariantViolation) as failure:
        fault.run()

    assert failure.value.invariant == fault.invariant, str(failure.value)


def test_every_invariant_is_needed() -> None:
    """There is a fault for each."""
    assert {fault.invariant for fault in FAULTS} == set(INVARIANTS)

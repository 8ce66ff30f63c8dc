"""Each fault that is planted in our own scheduler or engine is found, by the invariant of its class."""

import pytest

from pytest_pagedkv.conformance.violation import InvariantViolation
from tests.conformance.planting import Fault
from tests.conformance.scheduler.own_faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.adapter.__name__)
def test_fault_is_found(fault: Fault, fresh_search: None) -> None:
    """The suite names the fault's class."""
    with pytest.raises(InvariantViolation) as failure:
        fault.run()

    assert failure.value.invariant == fault.invariant, str(failure.value)

"""Each fault that is planted in our own tiers is found, by the invariant of its class."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

from pytest_pagedkv.conformance.violation import InvariantViolation
from tests.conformance.offload.own_faults import FAULTS
from tests.conformance.planting import Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.adapter.__name__)
def test_fault_is_found(fault: Fault, fresh_search: None, tmp_path: Path) -> None:
    """The suite names the fault's class."""
    with pytest.raises(InvariantViolation) as failure:
        fault.run(**{} if fault.test[0] == "test_random_programs" else {"tmp_path": tmp_path})

    assert failure.value.invariant in fault.invariant.split(" or "), str(failure.value)

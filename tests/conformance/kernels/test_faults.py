"""Each planted fault is found, by the invariant that names its class."""

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

from pytest_pagedkv.conformance.kernels.invariants import INVARIANTS  # noqa: E402 - torch first
from pytest_pagedkv.conformance.violation import InvariantViolation  # noqa: E402 - torch first
from tests.conformance.kernels.faults import FAULTS  # noqa: E402 - torch first
from tests.conformance.planting import Fault  # noqa: E402 - torch first


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the suite: on tensors as small as these, threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.adapter.__name__)
def test_fault_is_found(fault: Fault, fresh_search: None) -> None:
    """The suite names the fault's class, and prints a test that repeats it."""
    with pytest.raises(InvariantViolation) as failure:
        fault.run()

    assert failure.value.invariant == fault.invariant, str(failure.value)
    assert fault.adapter.__qualname__ in failure.value.adapter


def test_every_invariant_is_needed() -> None:
    """There is a fault for each."""
    assert {fault.invariant for fault in FAULTS} == set(INVARIANTS)

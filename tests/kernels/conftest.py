"""Kernels are interpreted where there is no GPU. Triton reads that when it is imported."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton") is not None:
        from tests.kernels.interpreter import repair

        repair()


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """On tensors as small as these, the threads of torch only wait, and for those of other test processes."""
    if find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

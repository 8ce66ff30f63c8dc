"""Where kernels are interpreted, the interpreter is repaired first."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None:
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

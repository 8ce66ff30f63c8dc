"""Checks of what tensors contain: off unless asked for, because they wait for the device.

    PAGEDKV_CHECK_KERNELS=1 python serve.py

or, around some calls, `with checking_contents(): ...`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["checking_contents", "is_checking"]

_IS_CHECKING = ContextVar("is_checking", default=os.environ.get("PAGEDKV_CHECK_KERNELS", "") not in ("", "0"))


def is_checking() -> bool:
    """Whether the kernels look at the contents of tables, lengths and slots before they launch."""
    return _IS_CHECKING.get()


@contextmanager
def checking_contents(*, enabled: bool = True) -> Iterator[None]:
    """Check contents in every call within, or do not."""
    token = _IS_CHECKING.set(enabled)
    try:
        yield
    finally:
        _IS_CHECKING.reset(token)

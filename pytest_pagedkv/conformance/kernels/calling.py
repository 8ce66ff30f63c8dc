"""Calling a kernel, and telling all about a call that went wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter
from pytest_pagedkv.conformance.kernels.invariants import INVARIANTS
from pytest_pagedkv.conformance.searching import path_of
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["call", "explained"]


def call(adapter: KernelAdapter, kernel: str, *args: Any) -> None:
    """Call a kernel of the adapter.

    Raises:
        InvariantViolation: it raised something.
    """
    try:
        getattr(adapter, kernel)(*args)
    except Exception as error:
        raise InvariantViolation(
            "documented-errors", f"{kernel} raised {type(error).__name__}: {error}", call=kernel
        ) from error


@contextmanager
def explained(check: Callable[..., None], adapter: KernelAdapter, case: object) -> Iterator[None]:
    """A violation leaves with the adapter, the case, and a test that repeats it."""
    try:
        yield
    except InvariantViolation as violation:
        cls, case_type = type(adapter), type(case).__name__
        violation.adapter = violation.adapter or path_of(cls)
        violation.call = violation.call or getattr(case, "kernel", check.__name__.removeprefix("check_"))
        imports = (
            f"from {check.__module__} import {check.__name__}\n"
            f"from {type(case).__module__} import {case_type}, PoolCase\n"
            f"from {cls.__module__} import {cls.__qualname__.partition('.')[0]}"
        )
        name = violation.invariant.replace("-", "_")
        body = f"def test_{name}():\n    {check.__name__}({cls.__qualname__}(), {case!r})"
        violation.sections = (
            ("must hold", INVARIANTS[violation.invariant]),
            ("replay", f"{imports}\n\n\n{body}"),
        )
        raise

"""Conformance suites: point one class at an engine's component, and see whether it keeps its contract."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_pagedkv.conformance.cache.checked import CheckedCache
    from pytest_pagedkv.conformance.cache.suite import KVCacheConformance
    from pytest_pagedkv.conformance.kernels.suite import KernelConformance
    from pytest_pagedkv.conformance.offload.suite import OffloadConformance
    from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance
    from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = [
    "CheckedCache",
    "InvariantViolation",
    "KVCacheConformance",
    "KernelConformance",
    "OffloadConformance",
    "SchedulerConformance",
]

_HOMES = {
    "CheckedCache": "cache.checked",
    "InvariantViolation": "violation",
    "KVCacheConformance": "cache.suite",
    "KernelConformance": "kernels.suite",
    "OffloadConformance": "offload.suite",
    "SchedulerConformance": "scheduler.suite",
}


def __getattr__(name: str) -> Any:
    """Import a suite when it is asked for: each needs other libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

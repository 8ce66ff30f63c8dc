"""Collects the suite that the adapter is for."""

from pathlib import Path

import pytest

from pytest_pagedkv.conformance.loading import ADAPTER
from pytest_pagedkv.state import STATE

_HERE = Path(__file__).parent
_KINDS = {
    "KVCacheAdapter": "cache",
    "KernelAdapter": "kernels",
    "SchedulerAdapter": "scheduler",
    "OffloadAdapter": "offload",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the suites for other kinds of adapters, and those that nobody has asked for."""
    if collection_path.parent == _HERE and collection_path.is_dir():
        return collection_path.name not in _wanted(config) or None
    if collection_path.name == "test_selftest.py":
        return not config.stash[STATE].options.selftest_faults or None
    if collection_path.name.startswith("test_"):
        return ADAPTER not in config.stash or None
    return None


def _wanted(config: pytest.Config) -> set[str]:
    adapter = config.stash.get(ADAPTER, None)
    wanted = {"cache"} if config.stash[STATE].options.selftest_faults else set[str]()
    if adapter is not None:
        wanted |= {_KINDS[base.__name__] for base in adapter.__mro__ if base.__name__ in _KINDS}
    return wanted

"""What importing costs, and what the package shows."""

import subprocess
import sys

import pytest

import pagedkv

HOST_MODULES = [
    "pagedkv.block_manager",
    "pagedkv.block_pool",
    "pagedkv.cli",
    "pagedkv.prefix_cache",
    "pagedkv.replay",
    "pagedkv.stats",
    "pagedkv.traces",
]


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_cheap() -> None:
    """`import pagedkv` alone brings in neither numpy nor torch."""
    assert imported_by("import pagedkv").isdisjoint({"numpy", "torch", "triton", "pytest", "rich"})


def test_the_bookkeeping_needs_no_torch() -> None:
    """Pool, manager, caches, replay and command line run where torch is not installed."""
    assert imported_by("import " + ", ".join(HOST_MODULES)).isdisjoint({"torch", "triton", "pytest"})


def test_every_public_name_is_there() -> None:
    """What `__all__` lists can be imported, and an unknown name is an AttributeError."""
    for name in pagedkv.__all__:
        assert getattr(pagedkv, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pagedkv.Nothing

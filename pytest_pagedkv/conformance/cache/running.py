"""Runs a program of calls."""

from pytest_pagedkv.adapter import KVCacheAdapter, OutOfBlocks
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.checked import CheckedCache
from pytest_pagedkv.conformance.cache.making import make_adapter
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["run"]


def run(
    adapter: type[KVCacheAdapter], program: Program, watch: Watch | None = None
) -> InvariantViolation | None:
    """Run a program on a new cache; gives what it breaks. Calls that are refused are passed over."""
    try:
        made = make_adapter(adapter, program.num_blocks, program.block_size, watch)
        cache = CheckedCache(made, watch=watch)
        for name, *arguments in program.calls:
            try:
                getattr(cache, name)(*arguments)
            except (OutOfBlocks, KeyError, ValueError):
                continue
        if not (program.calls and program.calls[-1][0] == "close"):
            cache.close()
    except InvariantViolation as violation:
        return violation
    return None

"""Whether the free blocks add up, and if not, why."""

from collections.abc import Iterator, Mapping

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_free", "drain"]

_PROBE_ID = 1_000_000_007


def check_free(
    adapter: KVCacheAdapter, num_free: int, holders: Mapping[int, Mapping[int, int]], invariant: str = ""
) -> None:
    """Check that free blocks and held blocks are all the usable ones.

    Args:
        adapter: the cache. If the books do not balance, it is asked for blocks to find out why.
        num_free: what it says is free.
        holders: the blocks in live tables, each with the sequences that hold it.
        invariant: the name to fail under; by default the one that names what is wrong.

    Raises:
        InvariantViolation: they are not.
    """
    expected = adapter.usable_blocks - len(holders)
    if num_free == expected:
        return
    sums = (
        f"the cache says {num_free} blocks are free; live sequences hold {len(holders)} of "
        f"{adapter.usable_blocks} usable ones, so it must be {expected}"
    )
    if invariant:
        raise InvariantViolation(invariant, sums)
    name, why = _why(adapter, holders) if num_free > expected else ("conservation", "")
    raise InvariantViolation(name, f"{sums}{why}")


def _why(adapter: KVCacheAdapter, holders: Mapping[int, Mapping[int, int]]) -> tuple[str, str]:
    """Why too many blocks are free: which one comes that should not, when the pool has to give all."""
    handed: set[int] = set()
    for block in drain(adapter):
        if block in holders:
            owner = next(iter(holders[block]))
            return "no-alias", f". Block {block} is handed out, though sequence {owner} holds it"
        if block in handed:
            return "unique-free", f". Block {block} is handed out twice when the pool is asked for all it has"
        handed.add(block)
    return "conservation", f". Asked for all it has, the pool hands out {len(handed)}: the count is wrong"


def drain(adapter: KVCacheAdapter) -> Iterator[int]:
    """The blocks that requests of a token each get, as long as they get some."""
    for number in range(adapter.num_blocks + 1):
        try:
            adapter.admit(_PROBE_ID + number, [900_000 + number])
            yield from adapter.block_table(_PROBE_ID + number)
        except Exception:  # noqa: BLE001 - the cache is broken; whatever it says ends the search
            return

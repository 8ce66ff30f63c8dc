"""What a paged KV cache has to keep, by name. Every failure carries one of these names."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["INVARIANTS"]

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "conservation": "free blocks + blocks that live sequences hold = usable blocks",
        "no-alias": "a block that a live sequence holds is neither free nor another's to write; where two "
        "tables share one, both find their own KV in it",
        "unique-free": "no block is in the free list twice",
        "ref-counts": "the reference count of a block = the number of live tables that hold it",
        "table-length": "a table has ceil(tokens / block_size) blocks, + at most max_overhead_blocks",
        "atomic-failure": "a call that raises OutOfBlocks leaves tables, counts and later behaviour "
        "as they were",
        "no-spurious-oom": "if the blocks needed are obtainable, the call succeeds",
        "progress": "an idle pool admits every request that fits it",
        "hit-soundness": "a cached token's whole prefix and namespace equal the requester's, and one token "
        "at least is left to compute",
        "hit-completeness": "a prefix just released, with nothing evicted since, hits up to its last full "
        "block",
        "eviction-order": "a prefix just used is evicted last, and from its tail",
        "reset": "nothing from before reset_prefix_cache hits after it",
        "come-home": "a released sequence has no table, and after the last one every block is obtainable "
        "again",
        "documented-errors": "no error but OutOfBlocks, KeyError for an unknown id, ValueError for a live "
        "one",
        "complexity": "a call costs about the same on a pool of 1k and of 64k blocks",
        "shadow": "every live sequence finds its own KV at every position",
        "well-formed": "answers have the promised type and range, arguments stay as they are, calls return",
    }
)
"""Name -> statement. The last two are the harness's own: shadow memory as such, and usable answers."""

"""What pool and block manager tell."""

from dataclasses import dataclass

from pagedkv.events.stream import Event

__all__ = [
    "AllocationFailed",
    "BlocksAllocated",
    "BlocksCopied",
    "BlocksFreed",
    "BlocksRegistered",
    "BlocksShared",
    "BlocksUnregistered",
    "PrefixLookup",
    "SequenceAdmitted",
    "SequenceForked",
    "SequenceReleased",
    "SequenceTruncated",
    "StepBooked",
    "TokensAppended",
]


@dataclass(frozen=True, slots=True)
class BlocksAllocated(Event):
    """Blocks left the free queue for a new owner; `num_evicted` of them gave up cached content."""

    num_blocks: int
    num_evicted: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class BlocksFreed(Event):
    """The last reference to these blocks was dropped; `num_cached` of them keep reusable content."""

    num_blocks: int
    num_cached: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class BlocksShared(Event):
    """Blocks gained a reference; `num_revived` of them were idle in the free queue."""

    num_blocks: int
    num_revived: int
    max_ref_count: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class AllocationFailed(Event):
    """A call was refused for lack of blocks."""

    needed: int
    free: int
    evictable: int


@dataclass(frozen=True, slots=True)
class BlocksRegistered(Event):
    """Full blocks entered the prefix cache."""

    num_blocks: int


@dataclass(frozen=True, slots=True)
class BlocksUnregistered(Event):
    """Blocks left the prefix cache for a reason other than eviction: overwritten, orphaned or reset."""

    num_blocks: int


@dataclass(frozen=True, slots=True)
class PrefixLookup(Event):
    """A prompt was looked up: `num_blocks` were eligible, the first `num_hit_blocks` of them hit."""

    num_tokens: int
    num_blocks: int
    num_hit_blocks: int
    num_hit_tokens: int


@dataclass(frozen=True, slots=True)
class BlocksCopied(Event):
    """Copy-on-write; `at_fork` tells an eager copy from one that a write asked for."""

    num_blocks: int
    at_fork: bool


@dataclass(frozen=True, slots=True)
class SequenceAdmitted(Event):
    """A sequence became live."""

    seq_id: int
    num_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class TokensAppended(Event):
    """Tokens were written behind live sequences; `num_shared_writes` writers found a shared block."""

    num_sequences: int
    num_tokens: int
    num_shared_writes: int


@dataclass(frozen=True, slots=True)
class StepBooked(Event):
    """The bookkeeping of one decode step (`append_batch`) is done."""

    batch_size: int
    num_new_blocks: int
    num_copies: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class SequenceForked(Event):
    """A child became live that shares its parent's blocks."""

    parent_id: int
    child_id: int
    num_shared_blocks: int


@dataclass(frozen=True, slots=True)
class SequenceTruncated(Event):
    """A sequence was cut back, as speculative decoding does."""

    seq_id: int
    num_tokens: int
    num_dropped_tokens: int


@dataclass(frozen=True, slots=True)
class SequenceReleased(Event):
    """A sequence ended; `deferred` if its blocks wait for a step that reads them."""

    seq_id: int
    num_blocks: int
    deferred: bool

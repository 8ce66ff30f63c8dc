"""What a kernel cannot do without: bytes, operations, and the time that these take on a machine.

Tokens n of a sequence, new tokens q of it, query heads Hq, KV heads Hkv, head dimension D, element sizes e
of KV and eq of queries:

    paged_decode          reads 2 e Hkv D sum(n), queries eq B Hq D, 4 bytes of table a block; writes as much
                          as the queries are; 4 Hq D sum(n) operations
    paged_prefill         the same with all queries; 4 Hq D sum(q (n - q) + q (q + 1) / 2) operations: the two
                          products of the causal part of the scores
    paged_decode_shared   as paged_decode, and reads a shared prefix once
    kv_write              reads 2 T Hkv D elements and 8 bytes of slot a token; writes 2 T Hkv D elements
    block_copy            reads and writes the blocks, of all layers; reads 16 bytes a copy
    block_gather,         reads and writes the blocks, of all layers; reads 8 bytes a block
    block_scatter

Where both are far below the machine's peaks, the roofline model says which one limits (Williams, Waterman,
Patterson: Roofline, CACM 52(4), 2009). Nothing here depends on how a kernel is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pagedkv.bench.cases import ATTENTION, COMPUTE_DTYPE, ELEMENT_BYTES, Case

__all__ = ["Floor", "Limits", "Work", "floor_of", "work_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a kernel has to do.

    Attributes:
        bytes_read: from memory.
        bytes_written: to memory.
        flops: additions and multiplications of the matrix products.
    """

    bytes_read: int
    bytes_written: int
    flops: int = 0

    @property
    def num_bytes(self) -> int:
        """All bytes."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class Limits:
    """What a machine was measured to do.

    Attributes:
        copy_bytes_per_s: a large copy, bytes read and bytes written together.
        read_bytes_per_s: reading a large buffer.
        flops_per_s: a large matrix product, by name of dtype.
    """

    copy_bytes_per_s: float
    read_bytes_per_s: float
    flops_per_s: Mapping[str, float]

    def rate(self, dtype: str) -> float:
        """The matrix rate for numbers of a dtype, which may as well be computed with in 32 bits."""
        return max(self.flops_per_s[dtype], self.flops_per_s.get("fp32", 0.0))


@dataclass(frozen=True, slots=True)
class Floor:
    """The least time that some work takes.

    Attributes:
        seconds: that time.
        bound: what takes it.
    """

    seconds: float
    bound: Literal["memory", "compute"]


def work_of(case: Case) -> Work:
    """What a kernel has to do on a shape."""
    if case.kernel in ATTENTION:
        return _attention(case)
    moved = 2 * case.num_tokens * case.heads.num_kv_heads * case.heads.head_dim
    if case.kernel == "kv_write":
        incoming = ELEMENT_BYTES[COMPUTE_DTYPE[case.dtype]]
        return Work(moved * incoming + 8 * case.num_tokens, moved * ELEMENT_BYTES[case.dtype])
    blocks = case.num_blocks * case.num_layers * _block_bytes(case)
    return Work(blocks + case.num_blocks * (16 if case.kernel == "block_copy" else 8), blocks)


def floor_of(case: Case, limits: Limits) -> Floor:
    """The least time of a kernel on a shape: that of its bytes or that of its operations.

    A byte read and a byte written take what they take in a copy; what is only read, or only written, takes
    what reading takes where that is quicker.
    """
    work = work_of(case)
    paired = min(work.bytes_read, work.bytes_written)
    alone = work.num_bytes - 2 * paired
    quickest = max(limits.read_bytes_per_s, limits.copy_bytes_per_s)
    memory_s = 2 * paired / limits.copy_bytes_per_s + alone / quickest
    compute_s = work.flops / limits.rate(COMPUTE_DTYPE[case.dtype]) if work.flops else 0.0
    return Floor(memory_s, "memory") if memory_s >= compute_s else Floor(compute_s, "compute")


def _attention(case: Case) -> Work:
    heads, new = case.heads, case.query_len
    kv_tokens = case.prefix + case.batch * (case.length - case.prefix)
    kv_bytes = 2 * ELEMENT_BYTES[case.dtype] * heads.num_kv_heads * heads.head_dim * kv_tokens
    queries = case.batch * new * heads.num_query_heads * heads.head_dim
    query_bytes = ELEMENT_BYTES[COMPUTE_DTYPE[case.dtype]] * queries
    table_bytes = 4 * case.batch * case.blocks_per_sequence
    scores = case.batch * (new * (case.length - new) + new * (new + 1) // 2)
    flops = 4 * heads.num_query_heads * heads.head_dim * scores
    return Work(kv_bytes + query_bytes + table_bytes, query_bytes, flops)


def _block_bytes(case: Case) -> int:
    """A block of one layer."""
    return 2 * ELEMENT_BYTES[case.dtype] * case.heads.num_kv_heads * case.page * case.heads.head_dim

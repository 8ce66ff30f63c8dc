"""A shape on which a kernel is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ATTENTION", "COMPUTE_DTYPE", "COPIES", "ELEMENT_BYTES", "KERNELS", "Case", "Heads"]

ATTENTION = ("paged_decode", "paged_prefill", "paged_decode_shared")
"""The kernels that attend."""
COPIES = ("kv_write", "block_copy", "block_gather", "block_scatter")
"""The kernels that only move KV."""
KERNELS = ATTENTION + COPIES
"""All of them, in the order in which they are measured."""

ELEMENT_BYTES: Mapping[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
"""What an element of KV takes, by the name of its dtype."""
COMPUTE_DTYPE: Mapping[str, str] = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "bf16"}
"""What queries and outputs are in, by the dtype of KV."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of a layer."""

    num_query_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = 128

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.num_query_heads // self.num_kv_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kernel on a shape. Every kernel works on the KV of `batch` sequences of `length` tokens.

    Attributes:
        kernel: one of `KERNELS`.
        dtype: of KV, a key of `ELEMENT_BYTES`.
        page: tokens in a block.
        batch: sequences.
        length: tokens of each.
        query_len: attention: the last tokens of a sequence, which attend; 0 elsewhere.
        prefix: paged_decode_shared: leading tokens that all sequences share.
        num_layers: block_copy, block_gather and block_scatter: layers that are moved at once.
        heads: of a layer.
    """

    kernel: str
    dtype: str
    page: int
    batch: int
    length: int
    query_len: int = 0
    prefix: int = 0
    num_layers: int = 1
    heads: Heads = field(default_factory=Heads)

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return self.batch * self.length

    @property
    def blocks_per_sequence(self) -> int:
        """Blocks that a sequence takes."""
        return -(-self.length // self.page)

    @property
    def num_blocks(self) -> int:
        """Blocks that all sequences take; a shared prefix counts once."""
        shared = self.prefix // self.page
        return shared + self.batch * (self.blocks_per_sequence - shared)

    @property
    def label(self) -> str:
        """The shape in short, such as "bf16 page 16, 8 x 1024"."""
        shape = f"{self.dtype} page {self.page}, {self.batch} x {self.length}"
        if self.kernel == "paged_prefill" and self.query_len < self.length:
            return f"{shape}, last {self.query_len}"
        return f"{shape}, {self.prefix} shared" if self.prefix else shape

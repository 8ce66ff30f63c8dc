"""The interface between the kernels of a paged KV cache and the suite that tests them. Imports no torch."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_pagedkv.adapter import Adapter

if TYPE_CHECKING:
    import torch

__all__ = ["AttentionOptions", "KernelAdapter", "KernelFeature", "Layout"]


class KernelFeature(enum.Flag):
    """What the kernels under test can do. A missing one skips its tests, naming the feature."""

    NONE = 0
    PAGED_DECODE = enum.auto()
    """`paged_decode`: the last few tokens of each sequence attend to its blocks."""
    PAGED_PREFILL = enum.auto()
    """`paged_prefill`: a chunk of new tokens of each sequence attends to the cached ones and to itself."""
    KV_WRITE = enum.auto()
    """`kv_write`: keys and values go to their slots."""
    BLOCK_COPY = enum.auto()
    """`block_copy`: blocks are copied within all layers by one call."""
    ORDERED_COPIES = enum.auto()
    """`block_copy` runs copies one after another: a later one reads what an earlier one wrote."""
    BLOCK_STAGING = enum.auto()
    """`block_gather` and `block_scatter`: scattered blocks to and from one contiguous buffer."""
    GQA = enum.auto()
    """Several query heads share a KV head."""
    SLIDING_WINDOW = enum.auto()
    """A query sees the last few tokens only."""
    SOFT_CAP = enum.auto()
    """Scores are bounded by a tanh."""
    SINKS = enum.auto()
    """A logit per head joins the softmax without a value."""
    FP8 = enum.auto()
    """Keys and values are stored in 8 bits, with a scale each."""


class Layout(enum.Enum):
    """How a layer's KV lies in memory: its axes, outermost first.

    The tensor that a kernel gets is always indexed `[num_blocks, 2, num_kv_heads, block_size, head_dim]`;
    what differs is the strides. The rows of `head_dim` elements are contiguous, and the base is 256-byte
    aligned.
    """

    HND = (0, 1, 2, 3, 4)
    """Contiguous: keys and values of a block side by side, head by head."""
    NHD = (0, 1, 3, 2, 4)
    """Keys and values of a block side by side, token by token."""
    SPLIT_HND = (1, 0, 2, 3, 4)
    """All keys before all values, head by head."""
    SPLIT_NHD = (1, 0, 3, 2, 4)
    """All keys before all values, token by token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOptions:
    """What attention has to do besides softmax(scale q k) v.

    Attributes:
        scale: factor of the scores.
        sliding_window: tokens that a query sees, itself included; None for all before it.
        soft_cap: scores become `soft_cap * tanh(score / soft_cap)`, before the mask; None for no cap.
        sinks: `[num_query_heads]` (float32) logits that enlarge the softmax's denominator; None for none.
        k_scale: stored keys times this are the keys; 1 unless they are stored in 8 bits.
        v_scale: the same for values.
    """

    scale: float
    sliding_window: int | None = None
    soft_cap: float | None = None
    sinks: "torch.Tensor | None" = None
    k_scale: float = 1.0
    v_scale: float = 1.0


class KernelAdapter(Adapter):
    """The kernels of a paged KV cache.

    The suite makes one for every test and calls it for many cases of different shapes, so that workspaces
    that are kept between calls are tested too. Every call within what the attributes declare has to work: an
    exception is a finding. A kernel writes its output and nothing else, and reads only the slots of its own
    sequences: all other slots, and the memory around every tensor, are filled with NaN. Outputs are poisoned
    before the call.

    `kv` of a layer is `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, with strides of one of
    `layouts`; `kv[:, 0]` are keys. The entries of a block table behind a sequence's last block name blocks
    that are not its.

    Attributes:
        features: what the kernels can do; the suite asks for nothing else.
        device: where tensors are made, such as "cpu" or "cuda".
        dtypes: names of torch dtypes of queries, outputs, keys and values.
        fp8_dtype: name of the torch dtype that KV is stored in with `KernelFeature.FP8`.
        layouts: memory layouts of KV that the kernels take.
        block_sizes: tokens in a block.
        head_dims: elements of a head.
        num_kv_heads: numbers of KV heads.
        gqa_ratios: query heads per KV head with `KernelFeature.GQA`; without, it is 1.
        query_lens: query tokens per sequence that `paged_decode` takes.
        max_batch: most sequences in a call.
        max_seq_len: longest sequence, in tokens.
        error_ratio: how many times the error of torch in the same dtype a kernel's may be, both measured
            against float64.
        case_share: of the usual number of cases, for kernels that take long, as interpreted ones do.
        num_threads: of torch, during the tests. A kernel that uses them is better tested with more; on
            tensors as small as these, they mostly wait for each other.
        max_pool_bytes: memory that the suite may allocate at once. Where 2**32 elements fit (most are never
            touched), blocks whose offset does not fit 32 bits are tested.
    """

    features: ClassVar[KernelFeature] = KernelFeature.NONE
    device: ClassVar[str] = "cpu"
    dtypes: ClassVar[Sequence[str]] = ("float32",)
    fp8_dtype: ClassVar[str] = "float8_e4m3fn"
    layouts: ClassVar[Sequence[Layout]] = (Layout.HND,)
    block_sizes: ClassVar[Sequence[int]] = (1, 4, 16)
    head_dims: ClassVar[Sequence[int]] = (8, 64)
    num_kv_heads: ClassVar[Sequence[int]] = (1, 2)
    gqa_ratios: ClassVar[Sequence[int]] = (1, 2, 4)
    query_lens: ClassVar[Sequence[int]] = (1,)
    max_batch: ClassVar[int] = 4
    max_seq_len: ClassVar[int] = 50
    error_ratio: ClassVar[float] = 2.0
    case_share: ClassVar[float] = 1.0
    num_threads: ClassVar[int] = 1
    max_pool_bytes: ClassVar[int] = 1 << 30

    def paged_decode(
        self,
        query: "torch.Tensor",
        kv: "torch.Tensor",
        block_tables: "torch.Tensor",
        seq_lens: "torch.Tensor",
        out: "torch.Tensor",
        options: AttentionOptions,
    ) -> None:
        """Attend from the last tokens of each sequence (`KernelFeature.PAGED_DECODE`).

        Query token i of a sequence with n tokens stands at position `n - query_len + i` and sees itself and
        what is before it; its own key and value are in the cache already.

        Args:
            query: `[batch, query_len, num_query_heads, head_dim]`.
            kv: one layer.
            block_tables: `[batch, max_blocks]` (int32).
            seq_lens: `[batch]` (int32) tokens in the cache, the query's included.
            out: as query; to be written.
            options: see there.
        """
        raise NotImplementedError(f"{type(self).__name__} has no paged_decode")

    def paged_prefill(
        self,
        query: "torch.Tensor",
        query_starts: "torch.Tensor",
        kv: "torch.Tensor",
        block_tables: "torch.Tensor",
        seq_lens: "torch.Tensor",
        out: "torch.Tensor",
        options: AttentionOptions,
    ) -> None:
        """Attend from a chunk of each sequence, of different lengths (`KernelFeature.PAGED_PREFILL`).

        As `paged_decode`, but the query tokens of all sequences are packed behind one another.

        Args:
            query: `[num_tokens, num_query_heads, head_dim]`.
            query_starts: `[batch + 1]` (int32); sequence i has the tokens `query_starts[i]:query_starts[i +
                1]`, at least one.
            kv: one layer.
            block_tables: `[batch, max_blocks]` (int32).
            seq_lens: `[batch]` (int32) tokens in the cache, the query's included.
            out: as query; to be written.
            options: see there.
        """
        raise NotImplementedError(f"{type(self).__name__} has no paged_prefill")

    def kv_write(
        self,
        key: "torch.Tensor",
        value: "torch.Tensor",
        kv: "torch.Tensor",
        slot_mapping: "torch.Tensor",
        k_scale: float,
        v_scale: float,
    ) -> None:
        """Write keys and values to their slots (`KernelFeature.KV_WRITE`).

        Args:
            key: `[num_tokens, num_kv_heads, head_dim]`.
            value: as key.
            kv: one layer; to be written. With `KernelFeature.FP8` it may be of `fp8_dtype`: what is stored
                then is the key divided by its scale, rounded to nearest.
            slot_mapping: `[num_tokens]` (int64) `block * block_size + offset`, no slot twice; -1 skips the
                token.
            k_scale: divides keys.
            v_scale: divides values.
        """
        raise NotImplementedError(f"{type(self).__name__} has no kv_write")

    def block_copy(self, kvs: "Sequence[torch.Tensor]", copies: "torch.Tensor") -> None:
        """Copy blocks within each layer (`KernelFeature.BLOCK_COPY`).

        No destination is also a source or another copy's destination, so that the order does not matter. With
        `KernelFeature.ORDERED_COPIES` both may be, and the result is that of one copy after another.

        Args:
            kvs: the layers; to be written.
            copies: `[num_copies, 2]` (int64) source and destination block.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block_copy")

    def block_gather(
        self, kvs: "Sequence[torch.Tensor]", block_ids: "torch.Tensor", staging: "torch.Tensor"
    ) -> None:
        """Collect blocks of all layers in a contiguous buffer (`KernelFeature.BLOCK_STAGING`).

        Args:
            kvs: the layers.
            block_ids: `[n]` (int64) blocks, none twice.
            staging: `[n, num_layers, 2, num_kv_heads, block_size, head_dim]`, contiguous; to be written.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block_gather")

    def block_scatter(
        self, staging: "torch.Tensor", kvs: "Sequence[torch.Tensor]", block_ids: "torch.Tensor"
    ) -> None:
        """Put blocks of all layers back from a contiguous buffer (`KernelFeature.BLOCK_STAGING`).

        Args:
            staging: as for `block_gather`.
            kvs: the layers; to be written.
            block_ids: `[n]` (int64) blocks, none twice.
        """
        raise NotImplementedError(f"{type(self).__name__} has no block_scatter")

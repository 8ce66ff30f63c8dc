"""What a kernel is called with, in words that shrink and can be pasted; and where such cases come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter, KernelFeature

__all__ = [
    "AttentionCase",
    "CopyCase",
    "PoolCase",
    "StagingCase",
    "WriteCase",
    "attention_cases",
    "copy_cases",
    "staging_cases",
    "write_cases",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCase:
    """One layer's KV.

    Attributes:
        num_blocks: blocks.
        block_size: tokens in a block.
        num_kv_heads: KV heads.
        head_dim: elements of a head.
        dtype: name of the torch dtype that is stored.
        layout: name of the `Layout`.
    """

    num_blocks: int
    block_size: int
    num_kv_heads: int = 1
    head_dim: int = 8
    dtype: str = "float32"
    layout: str = "HND"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCase:
    """A call of paged_decode or paged_prefill.

    Attributes:
        kernel: the method.
        lengths: of each sequence, tokens in the cache and how many of them are query tokens.
        pool: the layer; blocks that no sequence needs are foreign.
        dtype: of queries and output.
        gqa_ratio: query heads per KV head.
        shared_blocks: leading full blocks that the sequences have in common, as after a fork.
        sliding_window: tokens that a query sees; 0 for all.
        soft_cap: bound of the scores; 0 for none.
        sinks: whether each head has a sink.
        kv_scale: what stored keys are multiplied with; values with twice that.
        magnitude: standard deviation of queries, keys and values.
        seed: of the block table, which is scrambled, and of the numbers.
    """

    kernel: str
    lengths: tuple[tuple[int, int], ...]
    pool: PoolCase
    dtype: str = "float32"
    gqa_ratio: int = 1
    shared_blocks: int = 0
    sliding_window: int = 0
    soft_cap: float = 0.0
    sinks: bool = False
    kv_scale: float = 1.0
    magnitude: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCase:
    """A call of kv_write: the slots of its tokens, and the scale of keys; that of values is twice it."""

    pool: PoolCase
    slots: tuple[int, ...]
    dtype: str = "float32"
    kv_scale: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCase:
    """A call of block_copy: (source, destination) blocks, copied in so many layers."""

    pool: PoolCase
    copies: tuple[tuple[int, int], ...]
    num_layers: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingCase:
    """A block_gather of these blocks, then a block_scatter of them."""

    pool: PoolCase
    block_ids: tuple[int, ...]
    num_layers: int = 1
    seed: int = 0


_SEEDS = st.integers(0, 2**16)


def _pool(draw: st.DrawFn, adapter: type[KernelAdapter], needed: int, **settled: Any) -> PoolCase:
    """A pool with room for the blocks that are needed, and up to four more."""
    drawn: dict[str, Any] = {
        "block_size": draw(st.sampled_from(adapter.block_sizes)),
        "num_kv_heads": draw(st.sampled_from(adapter.num_kv_heads)),
        "head_dim": draw(st.sampled_from(adapter.head_dims)),
        "dtype": draw(st.sampled_from(adapter.dtypes)),
        "layout": draw(st.sampled_from(adapter.layouts)).name,
    }
    return PoolCase(num_blocks=needed + draw(st.integers(0, 4)), **(drawn | settled))


def _length(draw: st.DrawFn, block_size: int, longest: int) -> int:
    """A length on, one before or one behind a block boundary more often than not."""
    near = draw(st.integers(0, longest // block_size)) * block_size + draw(st.sampled_from((0, 1, -1)))
    anywhere = draw(st.integers(1, longest))
    return min(max(draw(st.sampled_from((near, anywhere))), 1), longest)


@st.composite
def attention_cases(
    draw: st.DrawFn, adapter: type[KernelAdapter], kernel: str, features: KernelFeature
) -> AttentionCase:
    """Ragged batches that use these features."""
    block_size = draw(st.sampled_from(adapter.block_sizes))
    query_len = draw(st.sampled_from(adapter.query_lens))

    def sequence() -> tuple[int, int]:
        length = _length(draw, block_size, adapter.max_seq_len)
        if kernel == "paged_decode":
            return max(length, query_len), query_len
        return length, draw(st.sampled_from((1, length, _length(draw, block_size, length))))

    lengths = tuple(sequence() for _ in range(draw(st.integers(1, adapter.max_batch))))
    dtype = draw(st.sampled_from(adapter.dtypes))
    is_8_bit = KernelFeature.FP8 in features
    return AttentionCase(
        kernel=kernel,
        lengths=lengths,
        pool=_pool(
            draw,
            adapter,
            sum(-(-length // block_size) for length, _ in lengths),
            block_size=block_size,
            dtype=adapter.fp8_dtype if is_8_bit else dtype,
        ),
        dtype=dtype,
        gqa_ratio=draw(st.sampled_from(adapter.gqa_ratios)) if KernelFeature.GQA in features else 1,
        shared_blocks=draw(st.sampled_from((0, 0, 1, 2))),
        sliding_window=draw(st.integers(1, 2 * block_size + 1))
        if KernelFeature.SLIDING_WINDOW in features
        else 0,
        soft_cap=draw(st.sampled_from((1.0, 30.0))) if KernelFeature.SOFT_CAP in features else 0.0,
        sinks=KernelFeature.SINKS in features,
        kv_scale=draw(st.sampled_from((1.0, 0.5, 2.0))) if is_8_bit else 1.0,
        magnitude=draw(st.sampled_from((1.0, 1.0, 1.0, 8.0))),
        seed=draw(_SEEDS),
    )


@st.composite
def write_cases(draw: st.DrawFn, adapter: type[KernelAdapter], features: KernelFeature) -> WriteCase:
    """Tokens for slots in any order, some of them skipped."""
    is_8_bit = KernelFeature.FP8 in features
    dtype = draw(st.sampled_from(adapter.dtypes))
    pool = _pool(draw, adapter, 1, dtype=adapter.fp8_dtype if is_8_bit else dtype)
    slots = st.integers(0, pool.num_blocks * pool.block_size - 1)
    chosen = draw(st.lists(slots, unique=True, max_size=8))
    skipped = draw(st.lists(st.integers(0, len(chosen)), max_size=2))
    for place in skipped:
        chosen.insert(place, -1)
    return WriteCase(
        pool=pool,
        slots=tuple(chosen or (-1,)),
        dtype=dtype,
        kv_scale=draw(st.sampled_from((1.0, 0.5, 2.0))) if is_8_bit else 1.0,
        seed=draw(_SEEDS),
    )


@st.composite
def copy_cases(draw: st.DrawFn, adapter: type[KernelAdapter], *, ordered: bool) -> CopyCase:
    """Copies whose order does not matter or, if `ordered`, chains and overwritten destinations too."""
    pool = _pool(draw, adapter, 2)
    blocks = st.integers(0, pool.num_blocks - 1)
    pairs = st.tuples(blocks, blocks).filter(lambda pair: pair[0] != pair[1])
    drawn = draw(st.lists(pairs, min_size=1, max_size=6))
    return CopyCase(
        pool=pool,
        copies=tuple(drawn) if ordered else _independent(drawn),
        num_layers=draw(st.integers(1, 3)),
        seed=draw(_SEEDS),
    )


def _independent(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Those pairs whose destination is no other's source or destination."""
    kept: list[tuple[int, int]] = []
    for source, destination in pairs:
        touched = {block for pair in kept for block in pair}
        if destination not in touched and source not in {pair[1] for pair in kept}:
            kept.append((source, destination))
    return tuple(kept)


@st.composite
def staging_cases(draw: st.DrawFn, adapter: type[KernelAdapter]) -> StagingCase:
    """Blocks in any order."""
    pool = _pool(draw, adapter, 1)
    blocks = st.integers(0, pool.num_blocks - 1)
    return StagingCase(
        pool=pool,
        block_ids=tuple(draw(st.lists(blocks, unique=True, min_size=1))),
        num_layers=draw(st.integers(1, 3)),
        seed=draw(_SEEDS),
    )

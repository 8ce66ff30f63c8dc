"""What kernels cannot do without, against numbers worked out by hand."""

import pytest

from pagedkv.bench.cases import Case, Heads
from pagedkv.bench.floors import Floor, Limits, Work, floor_of, work_of

SMALL = Heads(num_query_heads=4, num_kv_heads=2, head_dim=8)


def test_decode() -> None:
    """20 tokens of KV, 2 queries of 32 elements, 2 tables of 3 blocks."""
    case = Case(kernel="paged_decode", dtype="fp16", page=4, batch=2, length=10, query_len=1, heads=SMALL)

    kv, queries, tables = 2 * 2 * (2 * 8) * 20, 2 * 2 * 32, 4 * 6

    assert work_of(case) == Work(kv + queries + tables, queries, flops=4 * 32 * 20)


def test_decode_of_the_specification() -> None:
    """32 sequences of 1024 tokens, 8 KV heads of 128, bf16: 134 MB, which take 31 us at 4.3 TB/s."""
    case = Case(kernel="paged_decode", dtype="bf16", page=16, batch=32, length=1024, query_len=1)
    limits = Limits(4.3e12, 4.3e12, {"bf16": 790e12})

    assert work_of(case).num_bytes == 134_217_728 + 2 * 262_144 + 8192
    assert floor_of(case, limits).seconds == pytest.approx(31e-6, rel=0.02)


def test_prefill_of_a_chunk() -> None:
    """3 tokens behind 2: they see 3, 4 and 5 tokens, 12 scores for each query head."""
    case = Case(kernel="paged_prefill", dtype="fp32", page=4, batch=1, length=5, query_len=3, heads=SMALL)

    kv, queries, table = 2 * 4 * 16 * 5, 4 * 3 * 32, 4 * 2

    assert work_of(case) == Work(kv + queries + table, queries, flops=4 * 32 * 12)


def test_a_shared_prefix_is_read_once() -> None:
    """2 sequences of 10 tokens that share 8: 12 tokens are read, 20 attended to."""
    case = Case(
        kernel="paged_decode_shared",
        dtype="fp16",
        page=4,
        batch=2,
        length=10,
        query_len=1,
        prefix=8,
        heads=SMALL,
    )

    work = work_of(case)

    assert work.bytes_read == 2 * 2 * 16 * 12 + 2 * 2 * 32 + 4 * 6
    assert work.flops == 4 * 32 * 20
    assert case.num_blocks == 2 + 2 * 1


@pytest.mark.parametrize(("dtype", "incoming", "stored"), [("fp32", 4, 4), ("bf16", 2, 2), ("fp8", 2, 1)])
def test_kv_write(dtype: str, incoming: int, stored: int) -> None:
    """6 tokens come in as they are computed with, and are stored as they are stored; 8 bytes of slot each."""
    case = Case(kernel="kv_write", dtype=dtype, page=4, batch=2, length=3, heads=SMALL)

    assert work_of(case) == Work(2 * 6 * 16 * incoming + 8 * 6, 2 * 6 * 16 * stored)


@pytest.mark.parametrize(
    ("kernel", "index_bytes"), [("block_copy", 16), ("block_gather", 8), ("block_scatter", 8)]
)
def test_blocks(kernel: str, index_bytes: int) -> None:
    """6 blocks of 3 layers are read and written whole, though the last token of each sequence ends early."""
    case = Case(kernel=kernel, dtype="bf16", page=4, batch=2, length=9, num_layers=3, heads=SMALL)

    blocks = 6 * 3 * (2 * 2 * 2 * 4 * 8)

    assert work_of(case) == Work(blocks + 6 * index_bytes, blocks)


def test_bytes_read_and_written_take_what_a_copy_takes() -> None:
    """What is only read takes less where reading is quicker, and never more than copying."""
    case = Case(kernel="kv_write", dtype="bf16", page=4, batch=1, length=1, heads=SMALL)
    quick_reads = floor_of(case, Limits(100.0, 200.0, {"bf16": 1.0}))
    slow_reads = floor_of(case, Limits(100.0, 50.0, {"bf16": 1.0}))

    assert quick_reads == Floor(2 * 64 / 100 + 8 / 200, "memory")
    assert slow_reads == Floor((2 * 64 + 8) / 100, "memory")


def test_operations_may_take_longer_than_bytes() -> None:
    """The floor is the longer of both; numbers of 16 bits may be computed with in 32 if that is quicker."""
    case = Case(kernel="paged_decode", dtype="fp16", page=4, batch=2, length=10, query_len=1, heads=SMALL)

    assert floor_of(case, Limits(1e9, 1e9, {"fp16": 100.0})) == Floor(2560 / 100, "compute")
    assert floor_of(case, Limits(1e9, 1e9, {"fp16": 100.0, "fp32": 256.0})) == Floor(10.0, "compute")

"""block_gather and block_scatter: on the CPU and in Triton, against plain loops, byte for byte."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
pytest.importorskip("triton", reason="GPU kernels are written in Triton")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import KernelInputError
from pagedkv.kernels.block_staging import block_gather, block_scatter, gpu, reference
from pagedkv.kernels.debugging import checking_contents
from pagedkv.kernels.launch import Target
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVLayout
from pytest_pagedkv.conformance.kernels.buffers import Guarded, as_bytes, check_inputs, check_zones
from tests.kernels.pools import BACKENDS, DTYPES, SHAPES, Pool, calling, device_of, needs_gpu, pool_of

on_backends = pytest.mark.parametrize("backend", BACKENDS)


def staging_for(pool: Pool, num_blocks: int) -> Guarded:
    """A buffer between red zones."""
    shape = (num_blocks, len(pool.layers), *pool.kv.shape[1:])
    return Guarded(shape, pool.kv.dtype, str(pool.kv.device))


def check_gathered(backend: str, pool: Pool, ids: Any) -> Guarded:
    """Gather, and compare with what the reference gathers; the pool stays as it is."""
    staging, expected, before = staging_for(pool, len(ids)), staging_for(pool, len(ids)), pool.copies()
    reference.block_gather(pool.layers, ids, expected.tensor)
    with calling(backend):
        block_gather(pool.layers, ids, staging.tensor)
    assert torch.equal(as_bytes(staging.tensor), as_bytes(expected.tensor))
    check_zones({"staging": staging})
    pool.check(before)
    staging.keep()
    return staging


def check_scattered(backend: str, staging: Guarded, pool: Pool, ids: Any) -> None:
    """Scatter, and compare with what the reference makes of the pool; the buffer stays as it is."""
    expected = pool.copies()
    reference.block_scatter(staging.tensor, expected, ids)
    with calling(backend):
        block_scatter(staging.tensor, pool.layers, ids)
    pool.check(expected)
    check_inputs({"staging": staging})
    check_zones({"staging": staging})


def check_both(backend: str, pool: Pool, block_ids: list[int], elsewhere: Pool) -> None:
    """Gather from one pool, scatter into another."""
    ids = torch.tensor(block_ids, dtype=torch.int64, device=pool.kv.device)
    staging = check_gathered(backend, pool, ids)
    check_scattered(backend, staging, elsewhere, ids)
    assert torch.equal(as_bytes(elsewhere.kv)[ids], as_bytes(pool.kv)[ids])


@on_backends
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", KVLayout)
def test_blocks_move_from_one_layout_to_another(backend, layout, shape):
    """Each layout, page size, head dim and dtype; the buffer has one order whatever the layouts."""
    dtype = DTYPES[SHAPES.index(shape) - 1]
    other = list(KVLayout)[list(KVLayout).index(layout) - 1]
    is_large = shape[1] > 16
    pool, elsewhere = (
        pool_of(backend, shape=shape, layout=one, dtype=dtype, num_layers=2 - is_large)
        for one in (layout, other)
    )
    check_both(backend, pool, [3] if is_large else [4, 0], elsewhere)


@on_backends
def test_all_layers_move_in_one_call(backend):
    """Layers are found by their addresses, wherever they are."""
    pools = [pool_of(backend, shape=(1, 8, 64), num_layers=17) for _ in range(2)]
    check_both(backend, pools[0], [2, 1], pools[1])


@on_backends
def test_no_blocks(backend):
    """Nothing happens."""
    check_both(backend, pool_of(backend), [], pool_of(backend))


@on_backends
def test_some_of_the_heads(backend):
    """Only rows have to be contiguous in the pool."""
    whole = pool_of(backend, shape=(4, 8, 64))
    layers = KVLayers([whole.kv[:, :, 1:3]])
    ids = torch.tensor([3, 0], device=whole.kv.device)
    staging = torch.empty(2, 1, 2, 2, 8, 64, dtype=torch.float16, device=whole.kv.device)
    expected = whole.copies()
    with calling(backend):
        block_gather(layers, ids, staging)
        assert torch.equal(as_bytes(staging)[:, 0], as_bytes(whole.kv)[ids, :, 1:3])
        as_bytes(whole.kv)[ids, :, 1:3] = 0
        block_scatter(staging, layers, ids)
    whole.check(expected)


@on_backends
def test_offsets_beyond_32_bits(backend):
    """The last block of a pool of more than 2**32 bytes is found where it is."""
    block = 2 * 4096
    num_blocks = 2**32 // block + 2
    try:
        memory = torch.empty(num_blocks * block, dtype=torch.uint8, device=device_of(backend))
    except RuntimeError as error:
        pytest.skip(f"no memory for {num_blocks * block / 2**30:.1f} GiB: {error}")
    kv = memory.view(FP8_DTYPE).view(num_blocks, 2, 1, 16, 256)
    as_bytes(kv)[-1].random_()
    ids = torch.tensor([num_blocks - 1], device=kv.device)
    staging = torch.empty(1, 1, *kv.shape[1:], dtype=FP8_DTYPE, device=kv.device)
    with calling(backend):
        block_gather(KVLayers([kv]), ids, staging)
        assert torch.equal(as_bytes(staging)[0, 0], as_bytes(kv)[-1])
        as_bytes(kv)[-1].zero_()
        block_scatter(staging, KVLayers([kv]), ids)
    assert torch.equal(as_bytes(staging)[0, 0], as_bytes(kv)[-1])


@st.composite
def moves(draw: st.DrawFn) -> dict[str, Any]:
    """Some blocks of pools of odd sizes."""
    num_blocks = draw(st.integers(1, 6))
    return {
        "block_ids": draw(st.lists(st.integers(0, num_blocks - 1), unique=True)),
        "layouts": (draw(st.sampled_from(KVLayout)), draw(st.sampled_from(KVLayout))),
        "pool": {
            "num_blocks": num_blocks,
            "num_layers": draw(st.integers(1, 3)),
            "shape": (draw(st.integers(1, 4)), draw(st.integers(1, 12)), 16 * draw(st.integers(1, 6))),
            "dtype": draw(st.sampled_from(DTYPES)),
        },
    }


@on_backends
@given(case=moves())
@settings(max_examples=15, deadline=None)
def test_ragged(backend, case):
    """Any row that is a multiple of 16 bytes."""
    pool, elsewhere = (pool_of(backend, layout=layout, **case["pool"]) for layout in case["layouts"])
    check_both(backend, pool, case["block_ids"], elsewhere)


def arguments(**changed: Any) -> tuple[KVLayers, Any, Any]:
    """Layers, ids and staging that fit together, but for what is changed."""
    fitting = {
        "layers": KVLayers([torch.randn(4, 2, 1, 8, 64) for _ in range(2)]),
        "block_ids": torch.tensor([3, 1]),
        "staging": torch.zeros(2, 2, 2, 1, 8, 64),
    } | changed
    return fitting["layers"], fitting["block_ids"], fitting["staging"]


BAD = {
    "block_ids has the shape [2, 1]; it must be [2]": {"block_ids": torch.tensor([[3], [1]])},
    "block_ids is torch.int32; it must be torch.int64": {"block_ids": torch.tensor([3, 1]).int()},
    "block_ids is on meta and KV on cpu": {"block_ids": torch.zeros(2, dtype=torch.int64, device="meta")},
    "block_ids has the strides (2,)": {"block_ids": torch.zeros(4, dtype=torch.int64)[::2]},
    "staging has the shape [2, 2, 1, 8, 64]; it must be [2, 2, 2, 1, 8, 64]": {
        "staging": torch.zeros(2, 2, 1, 8, 64)
    },
    "staging is torch.float16 and KV torch.float32": {"staging": torch.zeros(2, 2, 2, 1, 8, 64).half()},
    "staging is on meta and KV on cpu": {"staging": torch.zeros(2, 2, 2, 1, 8, 64, device="meta")},
    "it must be contiguous": {"staging": torch.zeros(2, 2, 2, 8, 1, 64).transpose(3, 4).transpose(0, 1)},
}


@on_backends
@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(backend, message):
    """In words that say what is wrong, both ways."""
    layers, ids, staging = arguments(**BAD[message])
    with calling(backend):
        with pytest.raises(KernelInputError) as caught:
            block_gather(layers, ids, staging)
        assert message in str(caught.value)
        with pytest.raises(KernelInputError) as caught:
            block_scatter(staging, layers, ids)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kv", "message"),
    [
        (torch.zeros(4, 2, 1, 8, 66)[..., :64], "multiples of 16 bytes"),
        (torch.zeros(4, 2, 1, 64, 8).transpose(3, 4), "the last must be 1"),
        (torch.zeros(4, 2, 1, 8, 6), "multiples of 16 bytes"),
    ],
)
def test_rows_that_wide_accesses_do_not_fit_are_refused_for_a_gpu(kv, message):
    """Strides of no layout, and rows that are no multiples of 16 bytes."""
    layers, ids, staging = arguments(layers=KVLayers([kv]), staging=torch.zeros(2, 1, *kv.shape[1:]))
    with calling("gpu"), pytest.raises(KernelInputError, match=message):
        block_gather(layers, ids, staging)


def test_a_buffer_that_is_not_aligned_is_refused_for_a_gpu():
    """A view of the middle of another, for example."""
    layers, ids, staging = arguments(staging=torch.zeros(4097)[1:].view(2, 2, 2, 1, 8, 64))
    with calling("gpu"), pytest.raises(KernelInputError, match="staging begins at an address"):
        block_scatter(staging, layers, ids)


@on_backends
@pytest.mark.parametrize(
    ("block_ids", "message"),
    [
        ([0, 4], r"block_ids\[1\] is 4; the pool has the blocks 0 to 3"),
        ([-1, 0], r"block_ids\[0\] is -1; the pool has the blocks 0 to 3$"),
        ([2, 2], r"block_ids\[0\] and \[1\] are both 2"),
    ],
)
def test_contents_are_checked_on_demand(backend, block_ids, message):
    """Blocks that are not there, or twice."""
    layers, ids, staging = arguments(block_ids=torch.tensor(block_ids))
    with calling(backend), checking_contents():
        with pytest.raises(KernelInputError, match=message):
            block_gather(layers, ids, staging)
        with pytest.raises(KernelInputError, match=message):
            block_scatter(staging, layers, ids)
    assert not staging.any()


@pytest.mark.parametrize("block_ids", [[0, 4], [0, -1], [2, 2]])
def test_contents_are_always_checked_on_a_cpu(block_ids):
    """It waits for nothing there; nothing is moved before."""
    layers, ids, staging = arguments(block_ids=torch.tensor(block_ids))
    before = [kv.clone() for kv in layers.tensors]
    with pytest.raises(KernelInputError, match="block_ids"):
        block_gather(layers, ids, staging)
    assert not staging.any()
    with pytest.raises(KernelInputError, match="block_ids"):
        block_scatter(staging, layers, ids)
    assert all(map(torch.equal, layers.tensors, before))


@on_backends
@pytest.mark.parametrize(
    ("kv", "message"),
    [
        (torch.zeros(1, 2, 1, 8, 64).expand(4, -1, -1, -1, -1), "share memory"),
        (torch.zeros(4, 2, 0, 8, 64), "none may be 0"),
        (torch.zeros(4, 2, 1, 8, 0), "none may be 0"),
    ],
)
def test_layers_that_cannot_be_written_are_refused(backend, kv, message):
    """Blocks that share memory, or have none."""
    staging = torch.zeros(2, 1, *kv.shape[1:])
    layers, ids, staging = arguments(layers=KVLayers([kv]), staging=staging)
    with calling(backend), pytest.raises(KernelInputError, match=message):
        block_scatter(staging, layers, ids)


def test_an_expanded_buffer_is_refused():
    """It is written, and its blocks would be one."""
    layers, ids, staging = arguments(staging=torch.zeros(1, 2, 2, 1, 8, 64).expand(2, -1, -1, -1, -1, -1))
    with pytest.raises(KernelInputError, match="it must be contiguous"):
        block_gather(layers, ids, staging)


@on_backends
def test_no_gradient_is_recorded(backend):
    """Pool and buffer outlive every step: a graph that hangs on them would grow for ever."""
    layers, ids, staging = arguments()
    given = KVLayers([kv.clone().requires_grad_() for kv in layers.tensors])
    with calling(backend):
        block_gather(given, ids, staging)
        assert not staging.requires_grad
        block_scatter(staging.clone().requires_grad_(), layers, ids)
    assert not any(kv.requires_grad for kv in layers.tensors)
    assert torch.equal(staging[:, 0], given.tensors[0][ids])


def test_one_compilation_serves_all_numbers_of_blocks():
    """Nothing but the grid depends on it."""
    layers = KVLayers([torch.empty(64, 2, 8, 16, 128, dtype=torch.bfloat16, device="meta")] * 3)
    made = []
    for n in (1, 50_000):
        staging = torch.empty(n, 3, 2, 8, 16, 128, dtype=torch.bfloat16, device="meta")
        ids = torch.empty(n, dtype=torch.int64, device="meta")
        made += gpu.gather_launches(layers, ids, staging, Target(90, 132))
    few, many = made
    numbers = [{k: v for k, v in one.arguments.items() if isinstance(v, int)} for one in made]
    assert (few.constants, numbers[0]) == (many.constants, numbers[1])
    assert (few.grid, many.grid) == ((8, 3, 1), (400_000, 3, 1))


@needs_gpu
def test_both_ways_can_be_captured_wait_for_nothing_and_allocate_nothing():
    """In a CUDA graph, with other blocks at each replay."""
    pool = pool_of("gpu", num_layers=3)
    ids = torch.tensor([0, 1], device="cuda")
    staging = staging_for(pool, 2).tensor
    block_gather(pool.layers, ids, staging)
    block_scatter(staging, pool.layers, ids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        block_gather(pool.layers, ids, staging)
        block_scatter(staging, pool.layers, ids)
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        block_gather(pool.layers, ids, staging)
    ids.copy_(torch.tensor([4, 2]))
    graph.replay()
    assert torch.equal(as_bytes(staging)[:, 0], as_bytes(pool.kv)[[4, 2]])

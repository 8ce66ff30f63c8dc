"""block_copy: on the CPU and in Triton, against plain loops, byte for byte."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
pytest.importorskip("triton", reason="GPU kernels are written in Triton")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import KernelInputError
from pagedkv.kernels.block_copy import block_copy, gpu, reference
from pagedkv.kernels.debugging import checking_contents
from pagedkv.kernels.launch import Target
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVLayout, KVStore
from pytest_pagedkv.conformance.kernels.buffers import as_bytes
from tests.kernels.pools import BACKENDS, DTYPES, SHAPES, Pool, calling, device_of, needs_gpu, pool_of

on_backends = pytest.mark.parametrize("backend", BACKENDS)


def check_copied(backend: str, pool: Pool, pairs: list[tuple[int, int]]) -> None:
    """Copy, and compare all layers with what the reference makes of them."""
    copies = torch.tensor(pairs, dtype=torch.int64, device=pool.kv.device).view(-1, 2)
    expected = pool.copies()
    reference.block_copy(expected, copies)
    with calling(backend):
        block_copy(pool.layers, copies)
    pool.check(expected)


@on_backends
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", KVLayout)
def test_blocks_are_copied(backend, layout, shape):
    """Each layout, page size, head dim and dtype; a block may be copied several times."""
    dtype = DTYPES[SHAPES.index(shape) - 1]
    pool = pool_of(backend, shape=shape, layout=layout, dtype=dtype)
    check_copied(backend, pool, [(4, 0), (1, 3), (4, 2)] if shape[1] <= 16 else [(4, 0)])


@on_backends
@pytest.mark.parametrize("layout", [KVLayout.NHD, KVLayout.SPLIT_HND])
def test_all_layers_are_copied_by_one_call(backend, layout):
    """Layers are found by their addresses, wherever they are."""
    pool = pool_of(backend, shape=(1, 8, 64), layout=layout, num_layers=17)
    check_copied(backend, pool, [(0, 1), (3, 4)])


@on_backends
@pytest.mark.parametrize("layout", KVLayout)
def test_the_layers_of_a_store(backend, layout):
    """As they are allocated, one behind the other."""
    store = KVStore(
        num_layers=3,
        num_blocks=4,
        block_size=8,
        num_kv_heads=2,
        head_dim=64,
        dtype=torch.bfloat16,
        layout=layout,
        device=device_of(backend),
    )
    for index in range(3):
        store.layer(index).normal_()
    before = [store.layer(index).clone() for index in range(3)]
    with calling(backend):
        block_copy(store.layers, torch.tensor([[2, 0]], device=device_of(backend)))
    for index in range(3):
        assert torch.equal(store.layer(index), before[index][[2, 1, 2, 3]])


@on_backends
def test_a_pool_with_blocks_further_apart(backend):
    """Only blocks have to be contiguous; what lies between them stays."""
    pool = pool_of(backend, num_blocks=6)
    expected = pool.copies()
    every_other = [KVLayers([kv[::2] for kv in layers.tensors]) for layers in (pool.layers, expected)]
    copies = torch.tensor([[0, 2]], device=pool.kv.device)
    reference.block_copy(every_other[1], copies)
    with calling(backend):
        block_copy(every_other[0], copies)
    pool.check(expected)


@on_backends
def test_no_copies(backend):
    """Nothing happens."""
    check_copied(backend, pool_of(backend), [])


@on_backends
def test_offsets_beyond_32_bits(backend):
    """The last blocks of a pool of more than 2**32 bytes are copied from and to where they are."""
    block = 2 * 4096
    num_blocks = 2**32 // block + 3
    try:
        memory = torch.empty(num_blocks * block, dtype=torch.uint8, device=device_of(backend))
    except RuntimeError as error:
        pytest.skip(f"no memory for {num_blocks * block / 2**30:.1f} GiB: {error}")
    kv = memory.view(FP8_DTYPE).view(num_blocks, 2, 1, 16, 256)
    first, source, destination = as_bytes(kv)[[0]], num_blocks - 2, num_blocks - 1
    as_bytes(kv)[source].random_()
    with calling(backend):
        block_copy(KVLayers([kv]), torch.tensor([[source, destination]], device=kv.device))
    assert torch.equal(as_bytes(kv)[destination], as_bytes(kv)[source])
    assert torch.equal(as_bytes(kv)[[0]], first)


@st.composite
def independent_copies(draw: st.DrawFn) -> dict[str, Any]:
    """Copies whose destinations are nobody's source, in pools of odd sizes."""
    num_blocks = draw(st.integers(2, 7))
    destinations = draw(st.lists(st.integers(0, num_blocks - 1), unique=True, max_size=num_blocks - 1))
    sources = sorted(set(range(num_blocks)) - set(destinations))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 20)), 16 * draw(st.integers(1, 6)))
    return {
        "pairs": [(draw(st.sampled_from(sources)), destination) for destination in destinations],
        "pool": {
            "num_blocks": num_blocks,
            "num_layers": draw(st.integers(1, 3)),
            "shape": shape,
            "dtype": draw(st.sampled_from(DTYPES)),
            "layout": draw(st.sampled_from(KVLayout)),
        },
    }


@on_backends
@given(case=independent_copies())
@settings(max_examples=15, deadline=None)
def test_ragged(backend, case):
    """Any block that is a multiple of 16 bytes."""
    check_copied(backend, pool_of(backend, **case["pool"]), case["pairs"])


BAD = {
    "copies has the shape [3]; it must be [3, 2]": torch.zeros(3, dtype=torch.int64),
    "copies has the shape [2, 3]; it must be [2, 2]": torch.zeros(2, 3, dtype=torch.int64),
    "copies has the shape []; it must be [0, 2]": torch.tensor(0),
    "copies is torch.int32; it must be torch.int64": torch.zeros(2, 2, dtype=torch.int32),
    "copies is on meta and KV on cpu": torch.zeros(2, 2, dtype=torch.int64, device="meta"),
    "copies has the strides (1, 2): call contiguous()": torch.zeros(2, 2, dtype=torch.int64).T,
}


@on_backends
@pytest.mark.parametrize("message", BAD)
def test_bad_copies_are_refused(backend, message):
    """In words that say what is wrong."""
    layers = KVLayers([torch.zeros(4, 2, 1, 8, 64)])
    with calling(backend), pytest.raises(KernelInputError) as caught:
        block_copy(layers, BAD[message])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kv", "message"),
    [
        (torch.zeros(4, 2, 3, 8, 64)[:, :, :, :4], "the keys of a block must be contiguous"),
        (torch.zeros(4, 2, 2, 8, 64)[..., :32], "the keys of a block must be contiguous"),
        (torch.zeros(4, 2, 1, 1, 2), "its blocks must be multiples of 16 bytes"),
    ],
)
def test_blocks_that_are_no_runs_are_refused_for_a_gpu(kv, message):
    """Strides of no layout."""
    with calling("gpu"), pytest.raises(KernelInputError, match=message):
        block_copy(KVLayers([kv]), torch.tensor([[0, 1]]))


@on_backends
@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 1), (4, 2)], r"copies\[1, 0\] is 4; the pool has the blocks 0 to 3"),
        ([(0, -1)], r"copies\[0, 1\] is -1; the pool has the blocks 0 to 3$"),
        ([(0, 2), (1, 3), (1, 2)], r"copies\[:, 1\]\[0\] and \[2\] are both 2"),
        ([(0, 1), (2, 3), (1, 0)], r"copies\[0\] writes block 1, which copies\[2\] reads"),
        ([(2, 2)], r"copies\[0\] writes block 2, which copies\[0\] reads"),
    ],
)
def test_contents_are_checked_on_demand(backend, pairs, message):
    """Blocks that are not there, and copies that depend on each other."""
    layers = KVLayers([torch.randn(4, 2, 1, 8, 64)])
    before = layers.tensors[0].clone()
    with calling(backend), checking_contents(), pytest.raises(KernelInputError, match=message):
        block_copy(layers, torch.tensor(pairs))
    assert torch.equal(layers.tensors[0], before)


@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize(
    "pairs", [[(0, 1), (3, 5)], [(-1, 0)], [(0, 1), (3, -1)], [(0, 1), (3, 1)], [(0, 1), (1, 2)]]
)
def test_contents_are_always_checked_on_a_cpu(layout, pairs):
    """It waits for nothing there; no copy is made before."""
    pool = pool_of("cpu", layout=layout, num_layers=2)
    before = pool.copies()
    with pytest.raises(KernelInputError, match="copies"):
        block_copy(pool.layers, torch.tensor(pairs))
    pool.check(before)


@on_backends
@pytest.mark.parametrize(
    ("kv", "message"),
    [
        (
            torch.zeros(1, 2, 1, 8, 64).expand(4, -1, -1, -1, -1),
            r"a layer has the strides \(0, .* share memory",
        ),
        (torch.zeros(4, 2, 1, 1, 64).expand(-1, -1, -1, 8, -1), r"a layer has the strides .* share memory"),
        (torch.zeros(4, 2, 0, 8, 64), r"a layer has the shape \[4, 2, 0, 8, 64\]; none may be 0"),
    ],
)
def test_layers_that_cannot_be_written_are_refused(backend, kv, message):
    """Blocks that share memory, or have none."""
    with calling(backend), pytest.raises(KernelInputError, match=message):
        block_copy(KVLayers([kv]), torch.tensor([[0, 1]]))


@on_backends
def test_no_gradient_is_recorded(backend):
    """Not even where a layer asks for one."""
    kv = torch.randn(4, 2, 1, 8, 64).requires_grad_()
    with calling(backend):
        block_copy(KVLayers([kv]), torch.tensor([[0, 1]]))
    assert kv.grad_fn is None
    assert torch.equal(kv[1], kv[0])


@on_backends
def test_contents_that_fit_pass_the_check(backend):
    """One source may have several destinations."""
    pool = pool_of(backend)
    with calling(backend), checking_contents():
        block_copy(pool.layers, torch.tensor([[0, 1], [0, 3]], device=pool.kv.device))
    assert torch.equal(as_bytes(pool.kv)[1], as_bytes(pool.kv)[3])


def launch_for(layout: KVLayout, num_copies: int, *, num_layers: int = 2, block_size: int = 16) -> Any:
    """The launch for tensors without data."""
    store = KVStore(
        num_layers=num_layers,
        num_blocks=1024,
        block_size=block_size,
        num_kv_heads=8,
        head_dim=128,
        dtype=torch.bfloat16,
        layout=layout,
        device="meta",
    )
    copies = torch.empty(num_copies, 2, dtype=torch.int64, device="meta")
    [launch] = gpu.launches(store.layers, copies, Target(90, 132))
    return launch


@pytest.mark.parametrize(
    ("layout", "runs"),
    [(KVLayout.HND, 1), (KVLayout.NHD, 1), (KVLayout.SPLIT_HND, 2), (KVLayout.SPLIT_NHD, 2)],
)
def test_a_block_is_one_run_or_two(layout, runs):
    """64 KiB in all, in tiles of 8 KiB: 8 programs for each copy in each layer."""
    launch = launch_for(layout, 3)
    assert launch.constants["NUM_RUNS"] == runs
    assert launch.grid == (3 * 8, 2, 1)


def test_many_copies_and_layers_fit_the_grid():
    """The second axis, which has 65535 places, is that of layers; copies have the first."""
    launch = launch_for(KVLayout.HND, 1_000_000, num_layers=200)
    assert launch.grid == (8_000_000, 200, 1)


def test_one_compilation_serves_all_numbers_of_copies():
    """Nothing but the grid depends on it."""
    few, many = (launch_for(KVLayout.SPLIT_NHD, n) for n in (1, 4096))
    numbers = [{k: v for k, v in one.arguments.items() if isinstance(v, int)} for one in (few, many)]
    assert (few.constants, numbers[0]) == (many.constants, numbers[1])


def test_small_blocks_have_small_programs():
    """A thread has 16 bytes to copy at least, down to a warp."""
    assert launch_for(KVLayout.HND, 1).num_warps == 4
    tiny = KVLayers([torch.empty(4, 2, 1, 8, 64, dtype=FP8_DTYPE, device="meta")])
    [launch] = gpu.launches(tiny, torch.empty(1, 2, dtype=torch.int64, device="meta"), Target(90, 132))
    assert (launch.num_warps, launch.constants["TILE"]) == (2, 64)


@needs_gpu
def test_a_step_can_be_captured_waits_for_nothing_and_allocates_nothing():
    """In a CUDA graph, with other copies at each replay."""
    pool = pool_of("gpu", num_layers=3)
    copies = torch.tensor([[0, 1], [0, 2]], device="cuda")
    block_copy(pool.layers, copies)
    torch.cuda.set_sync_debug_mode("error")
    try:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        block_copy(pool.layers, copies)
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        block_copy(pool.layers, copies)
    expected = pool.copies()
    copies.copy_(torch.tensor([[3, 4], [0, 1]]))
    reference.block_copy(expected, copies)
    graph.replay()
    pool.check(expected)

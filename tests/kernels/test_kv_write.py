"""kv_write: on the CPU and in Triton, against plain loops, bit for bit."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
pytest.importorskip("triton", reason="GPU kernels are written in Triton")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import KernelInputError
from pagedkv.kernels.debugging import checking_contents
from pagedkv.kernels.kv_write import gpu, kv_write, reference
from pagedkv.kernels.launch import Target
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVLayout, KVScales, KVStore
from pytest_pagedkv.conformance.kernels.buffers import Guarded, as_bytes
from tests.kernels.pools import BACKENDS, DTYPES, SHAPES, Pool, calling, device_of, needs_gpu, pool_of

FLOATS = DTYPES[:3]
on_backends = pytest.mark.parametrize("backend", BACKENDS)


def tokens_for(pool: Pool, num_tokens: int, dtype: Any, *, num_query_heads: int = 2) -> tuple[Any, Any]:
    """Keys and values that are views of one fused tensor, as a projection returns it; NaN around them."""
    _, _, num_heads, _, head_dim = pool.kv.shape
    fused = torch.randn(num_tokens, (num_query_heads + 2 * num_heads) * head_dim, device=pool.kv.device)
    fused = (fused * 30).to(dtype)
    fused[:, : num_query_heads * head_dim] = float("nan")
    sizes = [n * head_dim for n in (num_query_heads, num_heads, num_heads)]
    _, key, value = fused.split(sizes, dim=1)
    return key.view(num_tokens, num_heads, head_dim), value.view(num_tokens, num_heads, head_dim)


def slots_for(pool: Pool, num_tokens: int, *, skip_every: int = 5) -> Any:
    """Scattered slots; every so many tokens have none."""
    num_slots = pool.kv.shape[0] * pool.kv.shape[3]
    slots = torch.randperm(num_slots, generator=torch.Generator().manual_seed(num_tokens))[:num_tokens]
    slots[::skip_every] = -1
    return slots.to(pool.kv.device)


def check_written(backend: str, pool: Pool, key: Any, value: Any, slots: Any, scales: KVScales) -> None:
    """Write, and compare the whole pool with what the reference makes of it."""
    expected = pool.copies()
    reference.kv_write(key, value, expected.tensors[0], slots, scales)
    with calling(backend):
        kv_write(key, value, pool.kv, slots, scales=scales)
    pool.check(expected)


@on_backends
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize("to_fp8", [False, True])
def test_tokens_are_in_their_slots(backend, layout, shape, to_fp8):
    """Each layout, page size and head dim; each dtype, as it is and in 8 bits."""
    dtype = FLOATS[SHAPES.index(shape) % 3]
    pool = pool_of(backend, num_blocks=3, shape=shape, layout=layout, dtype=FP8_DTYPE if to_fp8 else dtype)
    key, value = tokens_for(pool, 11, dtype)
    scales = KVScales(0.37, 1.9) if to_fp8 else KVScales()
    check_written(backend, pool, key, value, slots_for(pool, 11), scales)


@on_backends
@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_is_rounded_to_nearest_even(backend, dtype, scale):
    """Ties, subnormals, what is beyond 448, infinities, signed zeros; NaN stays NaN."""
    pool = pool_of(backend, num_blocks=16, shape=(2, 16, 128), layout=KVLayout.NHD, dtype=FP8_DTYPE)
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    key = numbers.view(256, 2, 128).to(pool.kv.device)
    scales = KVScales(scale, scale)
    expected = pool.copies().tensors[0]
    reference.kv_write(key, key, expected, torch.arange(256), scales)
    with calling(backend):
        kv_write(key, key, pool.kv, torch.arange(256, device=key.device), scales=scales)
    is_nan = expected.float().isnan()
    assert torch.equal(pool.kv.float().isnan(), is_nan)
    assert torch.equal(as_bytes(pool.kv)[~is_nan], as_bytes(expected)[~is_nan])


@on_backends
def test_float32_numbers_near_ties_are_rounded_to_nearest_even(backend):
    """A number a last bit away from the middle between two codes goes to the nearer one."""
    codes = torch.arange(0x7E, dtype=torch.uint8).view(FP8_DTYPE).double()
    ties = ((codes[1:] + codes[:-1]) / 2).float()
    near = [torch.nextafter(ties, torch.full_like(ties, end)) for end in (-1e9, 1e9)]
    numbers = torch.cat([ties, *near])
    numbers = torch.cat([numbers, -numbers, torch.zeros(1024 - 2 * len(numbers))])
    pool = pool_of(backend, num_blocks=1, shape=(1, 16, 64), dtype=FP8_DTYPE)
    key = numbers.view(16, 1, 64).to(pool.kv.device)
    check_written(backend, pool, key, -key, torch.arange(16, device=key.device), KVScales())


@on_backends
def test_contiguous_tokens_and_skipped_ones(backend):
    """Nothing is written where all are skipped, and the first and last slot are within reach."""
    pool = pool_of(backend)
    key, value = tokens_for(pool, 4, torch.float16)
    key, value = key.contiguous(), value.contiguous()
    for slots in ([-1, -1, -1, -1], [79, 0, -1, 1]):
        check_written(backend, pool, key, value, torch.tensor(slots, device=key.device), KVScales())


@on_backends
def test_key_and_value_may_lie_differently(backend):
    """Strides are those of each."""
    pool = pool_of(backend)
    key, value = tokens_for(pool, 7, torch.float16)
    value = value.transpose(0, 1).contiguous().transpose(0, 1)
    check_written(backend, pool, key, value, slots_for(pool, 7), KVScales())


@on_backends
def test_inputs_are_read_only_where_tokens_are(backend):
    """Behind the last token and between tokens is nothing that is read into the pool, or written."""
    pool = pool_of(backend)
    key, value = (Guarded((3, 2, 64), torch.float16, device_of(backend)) for _ in range(2))
    for tokens in (key, value):
        tokens.tensor.normal_()
        tokens.keep()
    check_written(backend, pool, key.tensor, value.tensor, slots_for(pool, 3), KVScales())
    assert not any((tokens.changed or tokens.zones_changed) for tokens in (key, value))


@on_backends
def test_no_tokens(backend):
    """Nothing happens."""
    pool = pool_of(backend)
    key, value = tokens_for(pool, 0, torch.float16)
    check_written(backend, pool, key, value, slots_for(pool, 0), KVScales())


@on_backends
def test_offsets_beyond_32_bits(backend):
    """The last block of a pool of more than 2**32 elements is written where it is."""
    shape = (2, 256, 256)
    block = 2 * 2 * 256 * 256
    num_blocks = 2**32 // block + 2
    try:
        memory = torch.empty(num_blocks * block, dtype=torch.uint8, device=device_of(backend))
    except RuntimeError as error:
        pytest.skip(f"no memory for {num_blocks * block / 2**30:.1f} GiB: {error}")
    kv = memory.view(FP8_DTYPE).view(num_blocks, 2, *shape)
    key = torch.randn(2, 2, 256, device=kv.device)
    last = num_blocks * 256 - 1
    slots = torch.tensor([last, last - 256], device=kv.device)
    with calling(backend):
        kv_write(key, key, kv, slots)
    for token, block_id in ((0, num_blocks - 1), (1, num_blocks - 2)):
        written = as_bytes(kv[block_id])[:, :, 255].cpu()
        assert torch.equal(written, as_bytes(key[token].to(FP8_DTYPE)).cpu().expand(2, -1, -1))


@st.composite
def ragged(draw: st.DrawFn) -> dict[str, Any]:
    """Odd numbers of everything."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 20)), 16 * draw(st.integers(1, 9)))
    num_blocks = draw(st.integers(1, 4))
    slots = draw(st.lists(st.integers(0, num_blocks * shape[1] - 1), unique=True, max_size=12))
    for place in draw(st.lists(st.integers(0, len(slots)), max_size=3)):
        slots.insert(place, -1)
    return {
        "pool": {"shape": shape, "num_blocks": num_blocks, "layout": draw(st.sampled_from(KVLayout))},
        "slots": slots,
        "dtype": draw(st.sampled_from(FLOATS)),
        "to_fp8": draw(st.booleans()),
        "num_query_heads": draw(st.integers(0, 3)),
    }


@on_backends
@given(case=ragged())
@settings(max_examples=15, deadline=None)
def test_ragged(backend, case):
    """Any number of heads, tokens and slots in a page, head dims that are multiples of 16."""
    dtype = case["dtype"]
    pool = pool_of(backend, **case["pool"], dtype=FP8_DTYPE if case["to_fp8"] else dtype)
    key, value = tokens_for(pool, len(case["slots"]), dtype, num_query_heads=case["num_query_heads"])
    slots = torch.tensor(case["slots"], dtype=torch.int64, device=key.device)
    check_written(backend, pool, key, value, slots, KVScales(0.7, 3.0) if case["to_fp8"] else KVScales())


def arguments(**changed: Any) -> dict[str, Any]:
    """Arguments that fit together, but for what is changed."""
    pool = pool_of("cpu")
    key, value = tokens_for(pool, 4, torch.float16)
    fitting = {"key": key, "value": value, "kv": pool.kv, "slot_mapping": torch.tensor([3, -1, 60, 0])}
    return fitting | changed


BAD = {
    "key has the shape [4, 64]; kv [5, 2, 2, 16, 64] takes [num_tokens, 2, 64]": {"key": torch.zeros(4, 64)},
    "key has the shape [4, 3, 64]": {"key": torch.zeros(4, 3, 64)},
    "kv has the shape [2, 2, 16, 64]": {"kv": torch.zeros(2, 2, 16, 64)},
    "value torch.float32 [4, 2, 64]; they must match": {"value": torch.zeros(4, 2, 64)},
    "value torch.float16 [3, 2, 64]; they must match": {"value": torch.zeros(3, 2, 64).half()},
    "key is torch.float64; it must be one of": {
        "key": torch.zeros(4, 2, 64).double(),
        "value": torch.zeros(4, 2, 64).double(),
    },
    "kv must be torch.float16 or torch.float8_e4m3fn": {"kv": torch.zeros(5, 2, 2, 16, 64)},
    "key is on cpu and value on meta": {"value": torch.zeros(4, 2, 64, dtype=torch.float16, device="meta")},
    "slot_mapping has the shape [3]; it must be [4]": {"slot_mapping": torch.zeros(3, dtype=torch.int64)},
    "slot_mapping is torch.int32; it must be torch.int64": {"slot_mapping": torch.zeros(4).int()},
    "slot_mapping is on meta and KV on cpu": {
        "slot_mapping": torch.zeros(4, dtype=torch.int64, device="meta")
    },
    "slot_mapping has the strides (2,)": {"slot_mapping": torch.zeros(8, dtype=torch.int64)[::2]},
    "scales are for torch.float8_e4m3fn: leave them out": {"scales": KVScales(2.0, 1.0)},
    "kv has the strides (0, 2048, 1024, 64, 1): places that share memory": {
        "kv": torch.zeros(1, 2, 2, 16, 64).half().expand(5, -1, -1, -1, -1)
    },
    "kv has the shape [5, 2, 0, 16, 64]; none may be 0": {
        "key": torch.zeros(4, 0, 64).half(),
        "value": torch.zeros(4, 0, 64).half(),
        "kv": torch.zeros(5, 2, 0, 16, 64).half(),
    },
    "kv has the shape [5, 2, 2, 0, 64]; none may be 0": {"kv": torch.zeros(5, 2, 2, 0, 64).half()},
    "has no float32 reciprocal": {
        "kv": torch.zeros(5, 2, 2, 16, 64).to(FP8_DTYPE),
        "scales": KVScales(1e-40, 1.0),
    },
}


@on_backends
@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(backend, message):
    """Before anything is written, in words that say what is wrong."""
    given = arguments(**BAD[message])
    before = given["kv"].clone()
    with calling(backend), pytest.raises(KernelInputError) as caught:
        kv_write(**given)
    assert message in str(caught.value)
    assert torch.equal(as_bytes(given["kv"]), as_bytes(before))


def padded(*shape: int) -> Any:
    """Zeros whose rows are 8 elements longer in memory."""
    *outer, inner = shape
    return torch.zeros(*outer, inner + 8).half()[..., :inner]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": padded(4, 2, 64)}, "key has the strides"),
        ({"value": padded(4, 2, 64)}, "value has the strides"),
        ({"key": torch.zeros(4, 64, 2).half().transpose(1, 2)}, "key has the strides"),
        ({"key": torch.zeros(1000).half()[1:513].view(4, 2, 64)}, "key begins at an address"),
        ({"kv": torch.zeros(5, 2, 2, 64, 16).half().transpose(3, 4)}, "kv has the strides"),
    ],
)
def test_what_wide_accesses_need_is_checked_for_a_gpu(changed, message):
    """Rows and addresses that are no multiples of 16."""
    with calling("gpu"), pytest.raises(KernelInputError, match=message):
        kv_write(**arguments(**changed))


def test_odd_head_dims_are_refused_for_a_gpu():
    """And named."""
    kv, key = torch.zeros(2, 2, 1, 4, 24), torch.zeros(1, 1, 24)
    with calling("gpu"), pytest.raises(KernelInputError, match="head_dim is 24"):
        kv_write(key, key, kv, torch.zeros(1, dtype=torch.int64))


def test_rows_that_overlap_are_refused_on_a_cpu():
    """Strides that are no multiples of head_dim are those of no layout."""
    kv = torch.zeros(4096).half().as_strided((2, 2, 2, 4, 64), (640, 320, 160, 32, 1))
    with pytest.raises(KernelInputError, match="multiples of 64"):
        kv_write(**arguments(kv=kv, slot_mapping=torch.tensor([0, 1, 2, 3])))


@on_backends
@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([0, 80, 1, 2], r"slot_mapping\[1\] is 80; the pool has the slots 0 to 79, and -1 skips"),
        ([0, 1, 2, -2], r"slot_mapping\[3\] is -2"),
        ([7, -1, -1, 7], r"slot_mapping\[0\] and \[3\] are both 7"),
    ],
)
def test_contents_are_checked_on_demand(backend, slots, message):
    """Slots that are not there, or twice."""
    given = arguments(slot_mapping=torch.tensor(slots))
    before = given["kv"].clone()
    with calling(backend), checking_contents(), pytest.raises(KernelInputError, match=message):
        kv_write(**given)
    assert torch.equal(as_bytes(given["kv"]), as_bytes(before))


@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize("slots", [[80, 1, 2, 3], [0, 1, 2, -2], [7, -1, -1, 7]])
def test_contents_are_always_checked_on_a_cpu(layout, slots):
    """It waits for nothing there; nothing is written before."""
    pool = pool_of("cpu", layout=layout)
    before, (key, value) = pool.copies(), tokens_for(pool, 4, torch.float16)
    with pytest.raises(KernelInputError, match="slot_mapping"):
        kv_write(key, value, pool.kv, torch.tensor(slots))
    pool.check(before)


@on_backends
def test_contents_that_fit_pass_the_check(backend):
    """Several tokens may be skipped."""
    pool = pool_of(backend)
    key, value = tokens_for(pool, 4, torch.float16)
    with calling(backend), checking_contents():
        kv_write(key, value, pool.kv, torch.tensor([-1, 79, -1, 0], device=key.device))
    assert torch.equal(pool.kv[4, 0, :, 15], key[1])


@on_backends
def test_no_gradient_is_recorded(backend):
    """The pool outlives every step: a graph that hangs on it would grow for ever."""
    given = arguments()
    expected = given["kv"].clone()
    reference.kv_write(given["key"], given["value"], expected, given["slot_mapping"], KVScales())
    for name in ("key", "value"):
        given[name] = given[name].clone().requires_grad_()
    with calling(backend):
        kv_write(**given)
    assert not given["kv"].requires_grad
    assert given["kv"].grad_fn is None
    assert torch.equal(as_bytes(given["kv"]), as_bytes(expected))


def launch_for(
    dtype: Any, stored: Any, num_tokens: int, *, arch: int = 90, heads: int = 8, dim: int = 128
) -> Any:
    """The launch for tensors without data."""
    store = KVStore(
        num_layers=1,
        num_blocks=4,
        block_size=16,
        num_kv_heads=heads,
        head_dim=dim,
        dtype=stored,
        layout=KVLayout.HND,
        device="meta",
    )
    key = torch.empty(num_tokens, heads, dim, dtype=dtype, device="meta")
    slots = torch.empty(num_tokens, dtype=torch.int64, device="meta")
    [launch] = gpu.launches(key, key, store.layer(0), slots, KVScales(), Target(arch, 132))
    return launch


def test_one_compilation_serves_all_numbers_of_tokens():
    """Only `num_tokens`, which nothing is specialised on, depends on it."""
    few, many = (launch_for(torch.bfloat16, torch.bfloat16, n) for n in (1, 4096))
    assert few.constants == many.constants
    numbers = [{k: v for k, v in one.arguments.items() if isinstance(v, int)} for one in (few, many)]
    assert numbers[0] | {"num_tokens": 4096} == numbers[1]


@pytest.mark.parametrize(("arch", "in_hardware"), [(80, False), (86, False), (89, True), (90, True)])
def test_8_bits_without_a_conversion_in_hardware(arch, in_hardware):
    """sm_80 stores the same codes; it computes them."""
    launch = launch_for(torch.bfloat16, FP8_DTYPE, 5, arch=arch)
    assert launch.constants["IN_HARDWARE"] is in_hardware
    assert launch.arguments["kv"].dtype == torch.uint8


@pytest.mark.parametrize(("heads", "dim"), [(8, 128), (1, 64), (8, 80), (1, 96), (3, 80), (128, 256)])
def test_programs_cover_all_elements(heads, dim):
    """Whatever the width of a token, in programs of one size."""
    launch = launch_for(torch.float16, torch.float16, 100, heads=heads, dim=dim)
    width, tokens = launch.constants["WIDTH"], launch.constants["TOKENS"]
    assert width * tokens == 1024
    tiles = -(-heads * dim // width)
    assert launch.grid == (-(-100 // tokens) * tiles, 1, 1)


@needs_gpu
def test_a_step_can_be_captured_waits_for_nothing_and_allocates_nothing():
    """In a CUDA graph, with new slots at each replay."""
    pool = pool_of("gpu", dtype=torch.bfloat16)
    key, value = tokens_for(pool, 6, torch.bfloat16)
    slots = torch.full((6,), -1, device="cuda")
    kv_write(key, value, pool.kv, slots)
    torch.cuda.set_sync_debug_mode("error")
    try:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        kv_write(key, value, pool.kv, slots)
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kv_write(key, value, pool.kv, slots)
    expected = KVLayers([pool.kv.clone()])
    slots.copy_(torch.tensor([5, 70, -1, 0, 33, 34]))
    reference.kv_write(key, value, expected.tensors[0], slots, KVScales())
    graph.replay()
    pool.check(expected)

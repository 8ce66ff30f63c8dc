"""The memory of keys and values: views, layouts, sizes, refusals."""

from itertools import pairwise
from math import prod

import pytest

pytest.importorskip("torch", reason="the store is made of torch tensors; torch is not installed")

import torch

from pagedkv.errors import ConfigError, KernelInputError
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVLayout, KVScales, KVStore

DTYPES = (torch.float32, torch.float16, torch.bfloat16, FP8_DTYPE)
SIZES = {"num_layers": 3, "num_blocks": 5, "block_size": 4, "num_kv_heads": 2, "head_dim": 16}


def store(**settings: object) -> KVStore:
    """A small store."""
    return KVStore(**(SIZES | {"dtype": torch.float16} | settings))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", KVLayout)
def test_every_layout_has_one_shape(layout, dtype):
    """Kernels index `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, whatever the strides."""
    made = store(dtype=dtype, layout=layout)
    assert len(made.layers) == 3
    assert {tuple(layer.shape) for layer in made.layers.tensors} == {(5, 2, 2, 4, 16)}
    assert {layer.dtype for layer in made.layers.tensors} == {dtype}


@pytest.mark.parametrize(
    ("layout", "strides"),
    [
        (KVLayout.HND, (256, 128, 64, 16, 1)),
        (KVLayout.NHD, (256, 128, 16, 32, 1)),
        (KVLayout.SPLIT_HND, (128, 640, 64, 16, 1)),
        (KVLayout.SPLIT_NHD, (128, 640, 16, 32, 1)),
    ],
)
def test_a_layout_is_the_order_of_strides(layout, strides):
    """Of blocks, parts, heads, tokens and elements."""
    assert store(layout=layout).layer(0).stride() == strides


@pytest.mark.parametrize("layout", [KVLayout.HND, KVLayout.NHD])
def test_a_block_is_one_run_of_memory(layout):
    """Where keys and values of a block lie side by side."""
    layer = store(layout=layout).layer(1)
    ends = [layer[i].data_ptr() for i in range(5)]
    assert {later - earlier for earlier, later in pairwise(ends)} == {2 * 2 * 4 * 16 * 2}


@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize("num_blocks", [1, 5])
def test_layers_are_aligned_and_do_not_overlap(layout, num_blocks):
    """Each begins at a multiple of 256 bytes, also where a layer has an odd number of bytes."""
    made = store(layout=layout, num_blocks=num_blocks, head_dim=3, block_size=1, num_kv_heads=1)
    addresses = [layer.data_ptr() for layer in made.layers.tensors]
    assert [address % 256 for address in addresses] == [0, 0, 0]
    assert all(later - earlier >= num_blocks * 12 for earlier, later in pairwise(addresses))
    for index in range(3):
        made.layer(index).fill_(index + 1)
    assert [float(layer.float().mean()) for layer in made.layers.tensors] == [1, 2, 3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_new_store_is_zeros(dtype):
    """So that what was never written is a number."""
    assert not any(layer.float().any() for layer in store(dtype=dtype).layers.tensors)


def test_pointers_are_the_addresses_of_the_layers():
    """In order, on the layers' device."""
    layers = store().layers
    assert layers.pointers.tolist() == [layer.data_ptr() for layer in layers.tensors]
    assert (layers.pointers.dtype, layers.pointers.device) == (torch.int64, layers.tensors[0].device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", KVLayout)
def test_sizes_in_bytes(layout, dtype):
    """Of a block in all layers, and of all blocks; padding between layers is not counted."""
    made = store(dtype=dtype, layout=layout)
    assert made.block_bytes == 3 * 2 * 2 * 4 * 16 * dtype.itemsize
    assert made.num_bytes == 5 * made.block_bytes
    assert made.num_bytes == sum(prod(layer.shape) * dtype.itemsize for layer in made.layers.tensors)


def test_the_layout_that_a_device_likes():
    """Whole blocks on a GPU, pages of keys or of values on a CPU; it is the default."""
    assert KVLayout.fastest_on("cuda") is KVLayout.HND
    assert KVLayout.fastest_on(torch.device("cuda", 1)) is KVLayout.HND
    assert KVLayout.fastest_on("cpu") is KVLayout.SPLIT_NHD
    assert store().layout is KVLayout.SPLIT_NHD
    assert store(device="meta").layout is KVLayout.HND


def test_a_store_like_another():
    """Only the number of blocks and the device differ; nothing is shared."""
    scales = [KVScales(0.5, 2.0), KVScales(), KVScales(3.0, 1.0)]
    one = store(dtype=FP8_DTYPE, layout=KVLayout.NHD, scales=scales)
    other = KVStore.like(one, num_blocks=7, device="cpu")
    assert other.layer(2).shape == (7, *one.layer(2).shape[1:])
    assert (other.layout, other.scales, other.layer(0).dtype) == (one.layout, tuple(scales), FP8_DTYPE)
    other.layer(0).view(torch.uint8).fill_(1)
    assert not one.layer(0).float().any()


def test_a_store_like_one_elsewhere_keeps_its_layout():
    """Blocks are copied between them as they are."""
    assert KVStore.like(store(device="meta"), num_blocks=2, device="cpu").layout is KVLayout.HND


@pytest.mark.parametrize("dtype", DTYPES)
def test_scales_are_one_unless_given(dtype):
    """One pair a layer."""
    assert store(dtype=dtype).scales == (KVScales(1.0, 1.0),) * 3


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("number", [0, -1, 1.0, "4", True])
def test_sizes_are_positive_numbers(name, number):
    """Each is named."""
    with pytest.raises(ConfigError, match=f"{name} is {number!r}; it must be a positive int"):
        store(**{name: number})


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.float8_e5m2, "float16"])
def test_dtypes_that_kv_is_not_stored_in(dtype):
    """The message lists those that it is."""
    with pytest.raises(
        ConfigError, match=r"torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn"
    ):
        store(dtype=dtype)


def test_scales_that_do_not_fit():
    """One for each layer, and only with 8 bits."""
    with pytest.raises(ConfigError, match="2 scales for 3 layers"):
        store(dtype=FP8_DTYPE, scales=[KVScales()] * 2)
    with pytest.raises(
        ConfigError, match=r"scales are for KV in torch.float8_e4m3fn, and dtype is torch.float16"
    ):
        store(scales=[KVScales(2.0, 1.0)] * 3)
    assert store(scales=[KVScales()] * 3).scales == (KVScales(),) * 3


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["k", "v"])
def test_scales_are_positive_and_finite(name, scale):
    """Each is named."""
    with pytest.raises(ConfigError, match=f"the scale of {name} is"):
        KVScales(**{name: scale})


@pytest.mark.parametrize("num_blocks", [10**13, 10**30])
def test_more_than_there_is(num_blocks):
    """The message has the sizes, and what to do."""
    with pytest.raises(
        ConfigError, match=rf"3 layers of {num_blocks} blocks take [\d.]+ GiB, which cpu cannot"
    ) as caught:
        store(num_blocks=num_blocks)
    assert "use fewer blocks" in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    """It is named."""
    with pytest.raises(
        ConfigError, match="which cuda cannot give: use fewer blocks, or a device that is there"
    ):
        store(device="cuda")


def test_layers_of_nothing():
    """There is at least one."""
    with pytest.raises(KernelInputError, match="there must be at least one"):
        KVLayers([])


@pytest.mark.parametrize("shape", [(4, 2, 8, 16), (4, 3, 1, 8, 16)])
def test_layers_of_another_shape(shape):
    """A view has five axes, the second for keys and values."""
    with pytest.raises(
        KernelInputError, match=r"it must be \[num_blocks, 2, num_kv_heads, block_size, head_dim\]"
    ):
        KVLayers([torch.zeros(shape)])


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(5, 2, 1, 8, 16),
        torch.zeros(4, 2, 1, 8, 16).half(),
        torch.zeros(4, 2, 1, 8, 32)[..., :16],
        torch.zeros(4, 2, 1, 8, 16, device="meta"),
    ],
    ids=["shape", "dtype", "strides", "device"],
)
def test_layers_that_differ(other):
    """One launch has one shape, dtype, device and one set of strides for all."""
    with pytest.raises(
        KernelInputError, match=r"layer 1 is .* and layer 0 is .*; layers of one store are alike"
    ):
        KVLayers([torch.zeros(4, 2, 1, 8, 16), other])


def test_layers_that_are_not_aligned():
    """Kernels access 16 bytes at once, at addresses that they do not look at one by one."""
    fitting = torch.zeros(4, 2, 1, 8, 16)
    shifted = torch.zeros(1025)[1:].view(4, 2, 1, 8, 16)
    with pytest.raises(
        KernelInputError, match="layer 1 begins at an address that is no multiple of 16 bytes"
    ):
        KVLayers([fitting, shifted])

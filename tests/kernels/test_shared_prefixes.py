"""What is read once for a group gives what is read for each."""

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import kernels
from pagedkv.kernels.dispatch import Backend
from pagedkv.kv_store import KVLayout
from tests.kernels.batches import Batch
from tests.kernels.pools import BACKENDS, calling, device_of
from tests.kernels.test_attention_shapes import check


def run_shared(
    batch: Batch, backend: Backend, sizes: list[int], blocks: list[int], **options: object
) -> torch.Tensor:
    """Decode with groups of these sizes, that share so many blocks."""
    query, *rest = batch.arguments
    with calling(backend):
        return kernels.paged_decode_shared(
            query, *rest, batch.prefixes(sizes, blocks), batch.options, out=batch.out, **options
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": torch.bfloat16, "heads": (4, 2), "layout": KVLayout.SPLIT_NHD},
        {"sinks": True, "soft_cap": 15.0, "dtype": torch.float16},
        {"sliding_window": 40},
        {"sliding_window": 5, "heads": (3, 1)},
        {"is_fp8": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_and_a_sequence_alone(backend: Backend, options: dict[str, object]) -> None:
    """Forks of one prompt of 64 tokens, and a sequence that shares nothing."""
    batch = Batch((65, 100, 64, 80), shared=4, device=device_of(backend), **options)
    check(batch, run_shared(batch, backend, [3, 1], [4, 0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_larger_than_a_tile(backend: Backend) -> None:
    """Twenty beams with four query heads for each KV head, and drafts of two tokens."""
    batch = Batch([34 + i for i in range(20)], 2, heads=(4, 1), shared=2, device=device_of(backend))
    check(batch, run_shared(batch, backend, [20], [2]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prefix_with_nothing_behind_it(backend: Backend) -> None:
    """The last token may be in a shared block; empty sequences pad the batch."""
    batch = Batch((32, 32, 0), shared=2, device=device_of(backend))
    check(batch, run_shared(batch, backend, [2, 1], [2, 0]))


def test_split_prefixes() -> None:
    """The prefix is split as sequences are."""
    batch = Batch((200, 190), shared=10, device=device_of("gpu"), sliding_window=150)
    check(batch, run_shared(batch, "gpu", [2], [10], split_size=64))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_groups(backend: Backend, data: st.DataObject) -> None:
    """Sequences of any lengths, in groups of any sizes, that share what they can or less."""
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    most = data.draw(st.integers(0, 4))
    lengths = [data.draw(st.integers(max(most * 8, 1), most * 8 + 30)) for _ in range(sum(sizes))]
    blocks = [data.draw(st.integers(0, most)) for _ in sizes]
    batch = Batch(lengths, block_size=8, shared=most, device=device_of(backend))
    check(batch, run_shared(batch, backend, sizes, blocks))

"""What only a GPU shows: launches that nothing waits for, and that a CUDA graph can repeat."""

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

from collections.abc import Callable

import torch

from pagedkv import kernels
from pagedkv.kernels import Workspace
from tests.kernels.batches import Batch
from tests.kernels.pools import needs_gpu
from tests.kernels.test_attention_shapes import check

pytestmark = needs_gpu


def calls() -> dict[str, tuple[Batch, Callable[[], torch.Tensor]]]:
    """A long decode that is split, a prefill, and a decode of a group, with all their memory."""
    decode = Batch((3000, 17, 0, 900), heads=(8, 2), dtype=torch.float16, device="cuda")
    prefill = Batch((300, 40), (200, 40), heads=(8, 2), dtype=torch.float16, device="cuda")
    shared = Batch((1000, 990), heads=(8, 2), shared=60, dtype=torch.float16, device="cuda")
    prefixes = shared.prefixes([2], [60])
    workspace = Workspace("cuda", 1 << 24)
    memory = {"workspace": workspace}
    return {
        "paged_decode": (
            decode,
            lambda: kernels.paged_decode(*decode.arguments, decode.options, out=decode.out, **memory),
        ),
        "paged_prefill": (
            prefill,
            lambda: kernels.paged_prefill(*prefill.arguments, prefill.options, out=prefill.out, **memory),
        ),
        "paged_decode_shared": (
            shared,
            lambda: kernels.paged_decode_shared(
                *shared.arguments, prefixes, shared.options, out=shared.out, **memory
            ),
        ),
    }


KERNELS = ("paged_decode", "paged_prefill", "paged_decode_shared")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_graph_repeats_it_with_other_lengths(kernel: str) -> None:
    """Nothing about the lengths is decided on the host."""
    batch, run = calls()[kernel]
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    if kernel == "paged_prefill":  # other chunks of the same tokens
        batch.query_starts.copy_(torch.tensor([0, 60, 240], dtype=torch.int32))
        batch.query_lens = [60, 180]
        batch.seq_lens.copy_(torch.tensor([300, 180], dtype=torch.int32))
        batch.block_tables = batch.block_tables.clone()
        batch.kv.nan_to_num_(0.5)
    else:  # the prefix of 960 tokens stays
        batch.seq_lens.copy_((batch.seq_lens - 13).clamp(min=0))
    batch.out.fill_(torch.nan)
    graph.replay()
    torch.cuda.synchronize()
    check(batch, batch.out)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_waits_and_nothing_is_allocated(kernel: str) -> None:
    """After the first call, which compiles."""
    batch, run = calls()[kernel]
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    check(batch, batch.out)

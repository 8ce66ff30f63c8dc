"""However a sequence is split, its result is that of attention; with a fixed size, to the last bit."""

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
pytest.importorskip("triton", reason="split by the Triton kernels; triton is not installed")

import torch

from pagedkv.kernels.launch import Target
from pagedkv.kernels.paged_decode import gpu
from tests.kernels.batches import Batch
from tests.kernels.pools import calling, device_of
from tests.kernels.test_attention_shapes import check, run

DEVICE = device_of("gpu")


def run_on(num_sms: int, batch: Batch, *, split_size: int | None = None) -> tuple[torch.Tensor, int]:
    """Decode as on a GPU of so many multiprocessors. Returns the output, and how many splits there were."""
    query, kv, tables, lens = batch.arguments
    target = Target(arch=90, num_sms=num_sms)
    launches = gpu.launches(
        query,
        kv,
        tables,
        lens,
        batch.options,
        out=batch.out,
        workspace=None,
        split_size=split_size,
        target=target,
    )
    with calling("gpu"):
        for launch in launches:
            launch.run()
    return batch.out, launches[0].grid[1]


@pytest.mark.parametrize(
    "options",
    [{}, {"sinks": True}, {"sliding_window": 300, "soft_cap": 10.0}, {"is_fp8": True}],
    ids=lambda options: "-".join(options) or "plain",
)
def test_a_large_gpu_splits_long_sequences(options: dict[str, object]) -> None:
    """Into parts of at least 256 tokens; short and empty sequences are in one part, or none."""
    batch = Batch((700, 3, 0, 257), device=DEVICE, **options)
    out, num_splits = run_on(132, batch)
    assert num_splits == (2 if "sliding_window" in options else 3)
    check(batch, out)


def test_a_small_gpu_does_not_split() -> None:
    """Where the sequences fill it, there is no second launch."""
    batch = Batch((600, 300), device=DEVICE)
    out, num_splits = run_on(1, batch)
    assert num_splits == 1
    check(batch, out)


@pytest.mark.parametrize("options", [{}, {"sliding_window": 100}], ids=["all", "window"])
def test_a_fixed_split_size_makes_results_independent_of_the_batch(options: dict[str, object]) -> None:
    """A sequence alone, and in a batch, on GPUs of different sizes: the same bits."""
    together = Batch((200, 130, 64), dtype=torch.float16, device=DEVICE, **options)
    outs = [run_on(num_sms, together, split_size=64)[0].clone() for num_sms in (1, 132)]
    assert torch.equal(*outs)
    check(together, outs[0])
    for i in range(3):
        alone = Batch((10,), dtype=torch.float16, device=DEVICE, **options)
        alone.kv, alone.query, alone.out = together.kv, together.query[i : i + 1], together.out[i : i + 1]
        alone.block_tables, alone.seq_lens = together.block_tables[i : i + 1], together.seq_lens[i : i + 1]
        assert torch.equal(run_on(132, alone, split_size=64)[0][0], outs[0][i])


@pytest.mark.parametrize("options", [{"sinks": True}, {"is_fp8": True}], ids=["sinks", "fp8"])
def test_a_fixed_split_size_makes_results_independent_of_the_table(options: dict[str, object]) -> None:
    """Engines cut tables to the longest sequence: a width of one split, or of many, gives the same bits."""
    narrow = Batch((60,), device=DEVICE, **options)
    out = run_on(132, narrow, split_size=64)[0].clone()
    width = narrow.block_tables.shape[1]
    wide = narrow.block_tables.new_zeros(1, 100)
    wide[:, :width] = narrow.block_tables
    narrow.block_tables = wide
    assert torch.equal(run_on(132, narrow, split_size=64)[0], out)


def test_more_parts_than_are_merged_at_once() -> None:
    """A merge takes sixteen parts, then the next."""
    batch = Batch((20 * 64 + 5,), device=DEVICE, sinks=True)
    out, num_splits = run_on(132, batch, split_size=64)
    assert num_splits == 21
    check(batch, out)


def test_a_window_needs_few_splits() -> None:
    """However wide the table is."""
    batch = Batch((1500,), device=DEVICE, sliding_window=100)
    out, num_splits = run_on(132, batch)
    assert num_splits == 1
    check(batch, out)
    out, num_splits = run_on(132, batch, split_size=64)
    assert num_splits == 4
    check(batch, out)


def test_one_long_sequence_is_split_in_a_batch_that_fills_the_gpu() -> None:
    """No program gets more than 8192 tokens."""
    batch = Batch((2, 3), device=DEVICE)
    batch.block_tables = batch.block_tables.new_zeros(2, 2048).index_copy_(
        1, torch.arange(2, device=DEVICE), batch.block_tables
    )
    out, num_splits = run_on(1, batch)
    assert num_splits == 4
    check(batch, out)


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # the interpreter
def test_nan_stays_visible() -> None:
    """A query that is not a number gives what is not a number, split or not."""
    for split_size in (None, 64):
        batch = Batch((200,), device=DEVICE)
        batch.query[0, 0, 1, 3] = torch.nan
        out, _ = run_on(1, batch, split_size=split_size)
        assert out[0, 0, 1].isnan().all()
        assert out[0, 0, 0].isfinite().all()


def test_split_sizes_are_rounded_to_tiles() -> None:
    """Any positive number does."""
    for split_size in (1, 70, 10_000):
        batch = Batch((150,), 2, device=DEVICE)
        check(batch, run(batch, "gpu", split_size=split_size))

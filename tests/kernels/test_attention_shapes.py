"""Every size that ships, once, in every dtype; and sequences that have nothing to attend to."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

import torch

from pagedkv import kernels
from pagedkv.kernels.dispatch import Backend
from pagedkv.kv_store import KVLayout
from tests.kernels.batches import Batch, allowed_error
from tests.kernels.pools import BACKENDS, calling, device_of

SIZES = ((8, 256), (16, 128), (32, 96), (64, 80), (128, 64), (256, 128))
"""Block size and head dimension."""

FORMS = (
    {"dtype": torch.float32, "heads": (2, 2)},
    {"dtype": torch.float16, "heads": (3, 1), "soft_cap": 20.0},
    {"dtype": torch.bfloat16, "heads": (4, 2), "sliding_window": 37, "layout": KVLayout.SPLIT_NHD},
    {"dtype": torch.bfloat16, "heads": (5, 1), "is_fp8": True, "sinks": True, "layout": KVLayout.NHD},
)


def run(batch: Batch, backend: Backend, **options: object) -> torch.Tensor:
    """Call the kernel of the batch."""
    kernel = kernels.paged_decode if batch.is_decode else kernels.paged_prefill
    with calling(backend):
        return kernel(*batch.arguments, batch.options, out=batch.out, **options)


def check(batch: Batch, out: torch.Tensor) -> None:
    """Compare with float64."""
    error = float((out.double() - batch.exact()).abs().max())
    assert error <= allowed_error(batch)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form['dtype']}-{form['heads']}")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
class TestSizes:
    """Lengths at and around the boundaries of blocks, and within."""

    def test_decode(self, backend: Backend, size: tuple[int, int], form: dict[str, object]) -> None:
        """One query token a sequence."""
        block_size, head_dim = size
        lengths = (1, block_size, min(block_size + 1, 140))
        batch = Batch(lengths, block_size=block_size, head_dim=head_dim, device=device_of(backend), **form)
        check(batch, run(batch, backend))

    def test_prefill(self, backend: Backend, size: tuple[int, int], form: dict[str, object]) -> None:
        """Chunks with and without cached tokens."""
        block_size, head_dim = size
        lengths, query_lens = (7, block_size - 1, 90), (7, 1, 33)
        options = {"block_size": block_size, "head_dim": head_dim, "device": device_of(backend)}
        batch = Batch(lengths, query_lens, **options, **form)
        check(batch, run(batch, backend))


@pytest.mark.parametrize("length", [2, 9, 140])
def test_what_is_allowed_is_less_than_any_fault(length: int) -> None:
    """A token that is left out, or a scale that is off by a ten-thousandth, is far outside in float32."""
    batch = Batch((length,))
    check(batch, run(batch, "cpu"))
    exact, allowed = batch.exact(), allowed_error(batch)
    right = batch.options
    batch.options = replace(right, scale=right.scale * 1.0001)
    assert float((run(batch, "cpu").double() - exact).abs().max()) > 2 * allowed
    batch.options = replace(right, sliding_window=length - 1)
    assert float((run(batch, "cpu").double() - exact).abs().max()) > 100 * allowed


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
class TestNothingToSee:
    """Padding of a batch."""

    def test_empty_sequences_give_zeros(self, backend: Backend, sinks: bool) -> None:
        """Also between others, and all of them."""
        for lengths in ((0, 5, 0), (0,), (20, 0)):
            batch = Batch(lengths, sinks=sinks, device=device_of(backend))
            out = run(batch, backend)
            check(batch, out)
            assert not out[batch.seq_lens == 0].any()

    def test_positions_before_the_first_token_give_zeros(self, backend: Backend, sinks: bool) -> None:
        """A sequence may be shorter than the query is long."""
        batch = Batch((2, 9), 4, sinks=sinks, device=device_of(backend))
        out = run(batch, backend)
        check(batch, out)
        assert not out[0, :2].any()
        assert out[0, 2:].all()

    def test_chunks_may_be_empty(self, backend: Backend, sinks: bool) -> None:
        """Of empty sequences, and of sequences with cached tokens."""
        batch = Batch((0, 30, 5, 0, 7), (0, 12, 0, 0, 7), sinks=sinks, device=device_of(backend))
        check(batch, run(batch, backend))

    def test_no_sequence_at_all(self, backend: Backend, sinks: bool) -> None:
        """Nothing happens."""
        assert run(Batch((), sinks=sinks, device=device_of(backend)), backend).numel() == 0
        assert run(Batch((), (), sinks=sinks, device=device_of(backend)), backend).numel() == 0


@pytest.mark.parametrize("backend", BACKENDS)
class TestWindows:
    """A query sees the last tokens only."""

    @pytest.mark.parametrize("kernel", ["decode", "prefill"])
    def test_what_is_before_the_window_is_not_read(self, backend: Backend, kernel: str) -> None:
        """Blocks that no query sees any more may be given to others: theirs may be NaN."""
        query_lens = 2 if kernel == "decode" else (2, 3)
        batch = Batch((90, 70), query_lens, sliding_window=10, device=device_of(backend))
        exact = batch.exact()
        for row, length in zip(batch.block_tables, batch.seq_lens.tolist(), strict=True):
            unseen = (length - max(batch.query_lens) - 10) // 16
            batch.kv[row[:unseen].long()] = torch.nan
        error = float((run(batch, backend).double() - exact).abs().max())
        assert error < 1e-5

    @pytest.mark.parametrize("kernel", ["decode", "prefill"])
    def test_windows_of_any_size(self, backend: Backend, kernel: str) -> None:
        """Up to the largest that 32 bits hold, also where sequences are shorter than queries."""
        for window in (1, 63, 64, 65, 2**31 - 1):
            query_lens = 16 if kernel == "decode" else (2, 70)
            batch = Batch((2, 70), query_lens, sliding_window=window, device=device_of(backend))
            check(batch, run(batch, backend))


@pytest.mark.parametrize("cap", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_soft_caps_in_float32(backend: Backend, cap: float) -> None:
    """Scores far below the cap keep their digits."""
    batch = Batch((100, 40), soft_cap=cap, device=device_of(backend))
    check(batch, run(batch, backend))


@pytest.mark.parametrize("sink", [-torch.inf, -3e38, 3e38])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sinks_at_the_extremes(backend: Backend, sink: float) -> None:
    """None at all, or all there is."""
    batch = Batch((20, 0), device=device_of(backend), sinks=True)
    batch.options.sinks.fill_(sink)
    out = run(batch, backend)
    batch.options.sinks.clamp_(-1e4, 1e4)  # which the reference can do
    check(batch, out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padded_chunks_get_zeros(backend: Backend) -> None:
    """Query tokens behind the last sequence's, as a CUDA graph of a fixed size has them."""
    batch = Batch((30, 50), (30, 7), device=device_of(backend))
    expected = batch.exact()
    padding = torch.full((100, *batch.query.shape[1:]), 3.0, device=batch.query.device)
    batch.query, batch.out = (torch.cat([tensor, padding]) for tensor in (batch.query, batch.out))
    out = run(batch, backend)
    assert not out[37:].any()
    assert float((out[:37].double() - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_wide_groups(backend: Backend) -> None:
    """More rows than a tile has: a long draft, and heads that no power of two divides."""
    batch = Batch((40, 70), 9, heads=(14, 2), dtype=torch.float16, device=device_of(backend))
    check(batch, run(batch, backend))

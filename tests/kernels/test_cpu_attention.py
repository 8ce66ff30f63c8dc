"""Attention on the CPU: what the conformance suite does not ask, in float64 so that any slip shows."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.kernels.attention_reference import attend
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode_shared import SharedPrefixes
from pagedkv.kernels.workspace import Workspace
from pytest_pagedkv.conformance.kernels.adapter import AttentionOptions as OracleOptions
from pytest_pagedkv.conformance.kernels.oracle import attend_exactly

_BLOCK_SIZE, _NUM_KV_HEADS, _GROUP_SIZE, _HEAD_DIM = 4, 2, 3, 8
_NUM_HEADS = _NUM_KV_HEADS * _GROUP_SIZE
_PLAIN = AttentionOptions(scale=0.3)
_few = settings(deadline=None, max_examples=40)
_SMALL_BUDGET = 512  # for one thread: the keys and values of four blocks


def _module(kernel: str, name: str) -> ModuleType:
    return importlib.import_module(f"pagedkv.kernels.{kernel}.{name}")


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences in a pool whose other slots are all NaN.

    Attributes:
        kv: `[num_blocks, 2, _NUM_KV_HEADS, _BLOCK_SIZE, _HEAD_DIM]`.
        tables: their block tables, with blocks of others behind their own.
        lens: their lengths.
        query: `[batch, query_len, _NUM_HEADS, _HEAD_DIM]`.
    """

    kv: torch.Tensor = field(repr=False)
    tables: torch.Tensor
    lens: torch.Tensor
    query: torch.Tensor = field(repr=False)

    def decode(self, options: AttentionOptions, *, by: str = "cpu", **more: object) -> torch.Tensor:
        """What a module of paged_decode makes of it."""
        out = torch.full_like(self.query, torch.nan)
        args = (self.query, self.kv, self.tables, self.lens, options)
        _module("paged_decode", by).paged_decode(*args, out=out, **more)
        return out

    def prefill(self, query_lens: Sequence[int], options: AttentionOptions, *, by: str) -> torch.Tensor:
        """What a module of paged_prefill makes of the first query tokens of each sequence."""
        packed = torch.cat([rows[:n] for rows, n in zip(self.query, query_lens, strict=True)])
        starts = torch.tensor([0, *accumulate(query_lens)], dtype=torch.int32)
        out = torch.full_like(packed, torch.nan)
        args = (packed, starts, self.kv, self.tables, self.lens, options)
        _module("paged_prefill", by).paged_prefill(*args, out=out)
        return out

    def of(self, i: int) -> "Batch":
        """One of its sequences, alone."""
        return Batch(self.kv, self.tables[i : i + 1], self.lens[i : i + 1], self.query[i : i + 1])


def _batch(lens: Sequence[int], query_len: int = 1, *, shared: Sequence[tuple[int, int]] = ()) -> Batch:
    """Sequences of these lengths.

    Args:
        lens: tokens of each.
        query_len: query tokens of each.
        shared: of each sequence, the sequence whose leading blocks it has, and how many of them.
    """
    rng = torch.Generator().manual_seed(len(lens) + sum(lens))
    num_blocks = [-(-n // _BLOCK_SIZE) for n in lens]
    free = torch.randperm(sum(num_blocks) + 1, generator=rng).tolist()
    kv = torch.full((len(free), 2, _NUM_KV_HEADS, _BLOCK_SIZE, _HEAD_DIM), torch.nan, dtype=torch.float64)
    tables = torch.full((len(lens), max(num_blocks) + 1), free.pop(), dtype=torch.int32)
    for i, needed in enumerate(num_blocks):
        source, common = shared[i] if shared else (i, 0)
        own = tables[source, :common].tolist() + [free.pop() for _ in range(needed - common)]
        tables[i, :needed] = torch.tensor(own, dtype=torch.int32)
        for token in range(common * _BLOCK_SIZE, lens[i]):
            place = kv[own[token // _BLOCK_SIZE], :, :, token % _BLOCK_SIZE]
            place.copy_(torch.randn(place.shape, generator=rng, dtype=torch.float64))
    shape = (len(lens), query_len, _NUM_HEADS, _HEAD_DIM)
    query = torch.randn(shape, generator=rng, dtype=torch.float64)
    return Batch(kv, tables, torch.tensor(lens, dtype=torch.int32), query)


def _exact(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def _options(draw: st.DrawFn) -> AttentionOptions:
    has_sinks = draw(st.booleans())
    return AttentionOptions(
        scale=0.3,
        sliding_window=draw(st.sampled_from((None, 1, 5, 40))),
        soft_cap=draw(st.sampled_from((None, 2.0))),
        sinks=torch.linspace(-2, 2, _NUM_HEADS) if has_sinks else None,
    )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """On tensors as small as these, threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few blocks fit a batch, so that sequences are split and merged."""
    for kernel in ("paged_decode", "paged_decode_shared", "paged_prefill"):
        monkeypatch.setattr(_module(kernel, "cpu"), "NUMEL_PER_THREAD", _SMALL_BUDGET)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Batch, AttentionOptions]:
    lens = draw(st.lists(st.sampled_from((0, 1, 3, 4, 5, 8, 31, 70)), min_size=1, max_size=6))
    return _batch(lens, draw(st.sampled_from((1, 2, 6)))), _options(draw)


class TestReferences:
    """The plain references agree with each other, and with one written by others."""

    @pytest.mark.parametrize("soft_cap", [None, 2.0])
    @pytest.mark.parametrize("window", [None, 1, 7])
    def test_attend_is_the_suites_oracle(self, window: int | None, soft_cap: float | None) -> None:
        """One sequence's attention is what the conformance suite computes in numpy."""
        rng = torch.Generator().manual_seed(0)
        query, keys, values = (
            torch.randn(n, heads, _HEAD_DIM, generator=rng, dtype=torch.float64)
            for n, heads in ((5, _NUM_HEADS), (19, _NUM_KV_HEADS), (19, _NUM_KV_HEADS))
        )
        settings = {"scale": 0.3, "sliding_window": window, "soft_cap": soft_cap}
        settings["sinks"] = torch.linspace(-1, 1, _NUM_HEADS)
        expected = attend_exactly(query.numpy(), keys.numpy(), values.numpy(), OracleOptions(**settings))
        _exact(attend(query, keys, values, AttentionOptions(**settings)), torch.from_numpy(expected))

    def test_decode_is_a_prefill_of_few_tokens(self) -> None:
        """A chunk of as many tokens as a decode has gives the same rows."""
        batch = _batch((9, 2, 30), 2)
        prefill = batch.prefill((2, 2, 2), _PLAIN, by="reference")
        _exact(batch.decode(_PLAIN, by="reference").flatten(0, 1), prefill)

    def test_empty_sequences_are_zeros(self) -> None:
        """So are query tokens before a sequence's first."""
        out = _batch((0, 1, 5), 3).decode(_PLAIN, by="reference")
        assert not out[0].any()
        assert not out[1, :2].any()
        assert out[1, 2].all()
        assert out[2].all()


class TestDecode:
    """paged_decode on the CPU."""

    @_few
    @given(case=_cases())
    def test_is_the_reference(self, case: tuple[Batch, AttentionOptions]) -> None:
        """Ragged batches with empty sequences, and more query tokens than a sequence has."""
        batch, options = case
        _exact(batch.decode(options), batch.decode(options, by="reference"))

    @pytest.mark.usefixtures("small_budget")
    def test_is_the_reference_in_pieces(self) -> None:
        """A sequence that does not fit a batch is read in pieces, and they are merged."""
        batch = _batch((300, 0, 3, 33, 150), 2)
        for window in (None, 50):
            sinks = torch.linspace(-2, 2, _NUM_HEADS)
            for options in (
                AttentionOptions(scale=0.3, sliding_window=window),
                AttentionOptions(scale=0.3, sliding_window=window, sinks=sinks, soft_cap=2.0),
            ):
                _exact(batch.decode(options), batch.decode(options, by="reference"))

    def test_one_long_among_many_short(self) -> None:
        """The extremes of a ragged batch."""
        batch = _batch((1000, *(10,) * 40, 0, 1))
        _exact(batch.decode(_PLAIN), batch.decode(_PLAIN, by="reference"))

    def test_all_empty(self) -> None:
        """A batch of padding gives zeros."""
        assert not _batch((0, 0)).decode(_PLAIN).any()

    def test_other_sequences_do_not_matter(self) -> None:
        """A sequence's result is the same alone, within rounding."""
        batch = _batch((70, 3, 0, 18, 71))
        together = batch.decode(_PLAIN)
        for i in range(len(batch.lens)):
            _exact(batch.of(i).decode(_PLAIN), together[i : i + 1])

    def test_strides_of_any_kind(self) -> None:
        """Pages that are no whole number of rows apart are read too."""
        batch = _batch((17, 5))
        padded = torch.full((*batch.kv.shape[:4], _HEAD_DIM + 3), torch.nan, dtype=torch.float64)
        padded[..., :_HEAD_DIM] = batch.kv
        other = Batch(padded[..., :_HEAD_DIM], batch.tables, batch.lens, batch.query)
        assert torch.equal(other.decode(_PLAIN), batch.decode(_PLAIN))

    @pytest.mark.parametrize("sink", [-torch.inf, -3e38, 3e38])
    def test_sinks_of_any_size(self, sink: float) -> None:
        """Of minus infinity they are as good as none; empty sequences give zeros with any."""
        batch = _batch((0, 5, 1), 2)
        out = batch.decode(AttentionOptions(scale=0.3, sinks=torch.full((_NUM_HEADS,), sink)))
        _exact(out, batch.decode(_PLAIN) if sink < 0 else torch.zeros_like(out))

    def test_workspace_settles(self) -> None:
        """A call takes the memory that the first one took, and does not care what is in it."""
        workspace, sizes = Workspace("cpu"), set()
        for length in (1, 40, 90, 91):
            batch = _batch((length, 7, 0))
            out = batch.decode(_PLAIN, workspace=workspace)
            assert torch.equal(out, batch.decode(_PLAIN))
            sizes.add(workspace.num_bytes)
            [memory] = workspace.take(((workspace.num_bytes,), torch.uint8))
            memory.fill_(255)  # NaN in every dtype
        assert len(sizes) == 1


class TestPrefill:
    """paged_prefill on the CPU."""

    @_few
    @given(case=_cases(), query_lens=st.lists(st.integers(0, 6), min_size=6, max_size=6))
    def test_is_the_reference(self, case: tuple[Batch, AttentionOptions], query_lens: list[int]) -> None:
        """Chunks of different lengths, some without a token."""
        batch, options = case
        most = batch.query.shape[1]
        lens = [min(most, n, m) for n, m in zip(query_lens, batch.lens.tolist(), strict=False)]
        ours, plain = (batch.prefill(lens, options, by=by) for by in ("cpu", "reference"))
        _exact(ours, plain)

    @pytest.mark.usefixtures("small_budget")
    def test_is_the_reference_in_pieces(self) -> None:
        """Chunks longer than a tile, over contexts longer than a batch."""
        batch = _batch((500, 41, 370), 350)
        for options in (_PLAIN, AttentionOptions(scale=0.3, sliding_window=99)):
            ours, plain = (batch.prefill((350, 0, 349), options, by=by) for by in ("cpu", "reference"))
            _exact(ours, plain)

    @pytest.mark.parametrize("lens", [(9, 0, 30), (0,), ()])
    @pytest.mark.parametrize("sinks", [None, torch.zeros(_NUM_HEADS)])
    def test_padding_is_zeros(self, lens: tuple[int, ...], sinks: torch.Tensor | None) -> None:
        """So are the rows of `out` behind the last sequence's, as in a graph's padded batch."""
        batch, options = _batch((*lens, 7), 3), AttentionOptions(scale=0.3, sinks=sinks)
        query_lens = [min(n, 3) for n in lens]
        num_tokens = sum(query_lens)
        query = torch.randn(num_tokens + 5, _NUM_HEADS, _HEAD_DIM, dtype=torch.float64)
        starts = torch.tensor([0, *accumulate(query_lens)], dtype=torch.int32)
        args = starts, batch.kv, batch.tables[:-1], batch.lens[:-1], options
        ours, plain = torch.full_like(query, torch.nan), torch.full_like(query, torch.nan)
        for by, out in (("cpu", ours), ("reference", plain)):
            _module("paged_prefill", by).paged_prefill(query, *args, out=out)
        assert not ours[num_tokens:].any()
        _exact(ours, plain)


class TestScratch:
    """Memory beyond the workspace."""

    @pytest.mark.parametrize("soft_cap", [None, 2.0])
    @pytest.mark.parametrize("num_kv_heads", [1, 8])
    def test_masks_and_scores_are_no_more_than_keys_and_values(
        self, monkeypatch: pytest.MonkeyPatch, num_kv_heads: int, soft_cap: float | None
    ) -> None:
        """What a batch compares keeps to its budget, however long a context, or many the sequences."""
        budget, sizes = 40_000, []
        monkeypatch.setattr(_module("paged_prefill", "cpu"), "NUMEL_PER_THREAD", budget)
        run = _module("cpu_attention", "run")
        plain = run.attend

        def attend(query: torch.Tensor, keys: torch.Tensor, *args: Any) -> Any:
            mask, num_scores = args[1], query[..., 0].numel() * keys.shape[2]
            sizes.append((0 if mask is None else mask.numel()) + (num_scores if soft_cap else 0))
            return plain(query, keys, *args)

        monkeypatch.setattr(run, "attend", attend)
        rng = torch.Generator().manual_seed(0)
        kv = torch.randn(400, 2, num_kv_heads, _BLOCK_SIZE, _HEAD_DIM, generator=rng)
        tables = torch.randint(0, 400, (34, 375), generator=rng, dtype=torch.int32)
        lens = torch.tensor((1500, 300, *(40,) * 32), dtype=torch.int32)
        starts = torch.tensor((0, 200, 201, *range(205, 333, 4)), dtype=torch.int32)
        query = torch.randn(329, num_kv_heads * 4, _HEAD_DIM, generator=rng)
        options = AttentionOptions(scale=0.3, soft_cap=soft_cap)
        ours, expected = torch.empty_like(query), torch.empty_like(query)
        for by, out in (("cpu", ours), ("reference", expected)):
            _module("paged_prefill", by).paged_prefill(query, starts, kv, tables, lens, options, out=out)
        torch.testing.assert_close(ours, expected)
        assert 0 < max(sizes) <= budget


@st.composite
def _shared(draw: st.DrawFn) -> tuple[Batch, SharedPrefixes, AttentionOptions]:
    """Groups of sequences, each with a prefix that ends before the group's shortest sequence does."""
    query_len = draw(st.sampled_from((1, 3)))
    lens: list[int] = []
    shared: list[tuple[int, int]] = []
    starts = [0]
    for _ in range(draw(st.integers(1, 4))):
        group = draw(st.lists(st.integers(0, 60), max_size=4))
        num_common = draw(st.integers(0, min(group, default=0) // _BLOCK_SIZE))
        shared += [(starts[-1], num_common)] * len(group)
        lens += group
        starts.append(len(lens))
    if not lens:
        lens, shared, starts = [5], [(0, 0)], [0, 1]
    firsts = {start for start in starts if start < len(lens)}
    links = [(i, 0) if i in firsts else link for i, link in enumerate(shared)]
    prefix_lens = torch.tensor([n * _BLOCK_SIZE for _, n in shared], dtype=torch.int32)
    prefixes = SharedPrefixes(torch.tensor(starts, dtype=torch.int32), prefix_lens, max(lens))
    return _batch(lens, query_len, shared=links), prefixes, _options(draw)


class TestDecodeShared:
    """paged_decode_shared on the CPU."""

    @_few
    @given(case=_shared())
    def test_is_the_reference(self, case: tuple[Batch, SharedPrefixes, AttentionOptions]) -> None:
        """Reading a prefix once changes no result."""
        batch, prefixes, options = case
        _exact(_decode_shared(batch, prefixes, options, "cpu"), batch.decode(options, by="reference"))

    @pytest.mark.usefixtures("small_budget")
    def test_is_the_reference_in_pieces(self) -> None:
        """A prefix longer than a batch, of more query tokens than a task has."""
        lens = (*range(201, 221), 7)
        batch = _batch(lens, 9, shared=[(0, 0), *[(0, 50)] * 19, (20, 0)])
        prefix_lens = torch.tensor([200] * 20 + [0], dtype=torch.int32)
        prefixes = SharedPrefixes(torch.tensor([0, 20, 21], dtype=torch.int32), prefix_lens, 20)
        _exact(_decode_shared(batch, prefixes, _PLAIN, "cpu"), batch.decode(_PLAIN, by="reference"))

    def test_the_references_agree(self) -> None:
        """Sharing is in the tables already."""
        batch = _batch((20, 21), shared=[(0, 0), (0, 5)])
        lens, starts = (torch.tensor(numbers, dtype=torch.int32) for numbers in ((20, 20), (0, 2)))
        ours = _decode_shared(batch, SharedPrefixes(starts, lens, 2), _PLAIN, "reference")
        assert torch.equal(ours, batch.decode(_PLAIN, by="reference"))

    def test_a_prefix_is_read_once(self) -> None:
        """Only the first sequence's table is looked at for the prefix."""
        batch = _batch((20, 21), shared=[(0, 0), (0, 5)])
        expected = batch.decode(_PLAIN)
        batch.tables[1, :5] = batch.kv.shape[0] + 100
        lens, starts = (torch.tensor(numbers, dtype=torch.int32) for numbers in ((20, 20), (0, 2)))
        _exact(_decode_shared(batch, SharedPrefixes(starts, lens, 2), _PLAIN, "cpu"), expected)


def _decode_shared(
    batch: Batch, prefixes: SharedPrefixes, options: AttentionOptions, by: str
) -> torch.Tensor:
    out = torch.full_like(batch.query, torch.nan)
    args = (batch.query, batch.kv, batch.tables, batch.lens, prefixes, options)
    _module("paged_decode_shared", by).paged_decode_shared(*args, out=out)
    return out

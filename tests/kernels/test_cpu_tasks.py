"""How attention on the CPU cuts a call into batches, and how it widens numbers of 8 bits."""

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.kernels.cpu_attention.fp8 import widen
from pagedkv.kernels.cpu_attention.tasks import Segments, Tasks, batches, split
from pagedkv.kv_store import FP8_DTYPE

_BLOCK_SIZE = 4
_few = settings(deadline=None, max_examples=40)


@st.composite
def _tasks(draw: st.DrawFn) -> tuple[Segments, Tasks, int]:
    lens = np.array(draw(st.lists(st.integers(0, 300), min_size=1, max_size=30)), dtype=np.int64)
    query_lens = np.minimum(draw(st.integers(1, 9)), np.maximum(lens, 1))
    rows = np.cumsum(query_lens) - query_lens
    positions = np.concatenate([n - q + np.arange(q) for n, q in zip(lens, query_lens, strict=True)])
    most_pages = draw(st.integers(1, 20))
    segments = Segments(np.arange(len(lens)), rows, query_lens, np.zeros_like(lens), lens)
    tiled = segments.tiled(draw(st.integers(1, 9)))
    limits = np.full(len(tiled.row), most_pages)
    tasks = split(tiled, positions, window=None, block_size=_BLOCK_SIZE, most_pages=limits)
    return segments, tasks, most_pages


class TestTasks:
    """Cutting a call into batches."""

    @_few
    @given(case=_tasks())
    def test_every_token_is_read_once(self, case: tuple[Segments, Tasks, int]) -> None:
        """The last query token of a segment sees each of its tokens in one task."""
        segments, tasks, most_pages = case
        last = segments.row + segments.num_rows - 1
        for row, stop in zip(last.tolist(), segments.stop.tolist(), strict=True):
            mine = tasks[(tasks.row <= row) & (row < tasks.row + tasks.num_rows)]
            starts, ends = np.sort(mine.start), np.sort(mine.start + mine.num_tokens)
            assert [*starts.tolist(), stop] == [0, *ends.tolist()]
        assert (tasks.num_tokens <= most_pages * _BLOCK_SIZE).all()
        assert not (tasks.start % _BLOCK_SIZE).any()

    @_few
    @given(case=_tasks())
    def test_padding_is_bounded(self, case: tuple[Segments, Tasks, int]) -> None:
        """A batch keeps to its limits, and less than a quarter of what it reads is for nothing."""
        _, tasks, most_pages = case
        number = 0
        limits = {"most_pages": most_pages, "most_rows": 20, "most_pairs": 300}
        for batch in batches(tasks, _BLOCK_SIZE, **limits) if len(tasks) else ():
            pages = -(-batch.num_tokens // _BLOCK_SIZE)
            assert len(batch) == 1 or pages.max() * len(batch) <= most_pages
            assert len(batch) == 1 or batch.num_rows.max() * len(batch) <= 20
            num_pairs = batch.num_rows.max() * pages.max() * _BLOCK_SIZE * len(batch)
            assert len(batch) == 1 or num_pairs <= 300
            assert pages.max() * len(batch) <= pages.sum() * 1.25
            assert len(set(batch.wave.tolist())) == 1
            assert len(set(batch.row.tolist())) == len(batch)
            number += len(batch)
        assert number == len(tasks)

    @_few
    @given(case=_tasks(), free_pages=st.integers(1, 200))
    def test_sizes_join_where_padding_is_cheap(
        self, case: tuple[Segments, Tasks, int], free_pages: int
    ) -> None:
        """Each batch that is spared is paid for with so many pages at most, and no task is lost."""
        _, tasks, _ = case
        limits = {"most_pages": 1000, "most_rows": 1000, "most_pairs": 10**6}
        if not len(tasks):
            return
        apart = list(batches(tasks, _BLOCK_SIZE, **limits))
        joined = list(batches(tasks, _BLOCK_SIZE, **limits, free_pages=free_pages))

        def read(cut: list[Tasks]) -> int:
            return sum(int((-(-each.num_tokens // _BLOCK_SIZE)).max()) * len(each) for each in cut)

        assert sum(map(len, joined)) == len(tasks)
        assert len(joined) <= len(apart)
        assert read(joined) <= 1.25 * read(apart) + free_pages * (len(apart) - len(joined))

    def test_short_ones_beside_each_other(self) -> None:
        """Lengths of several pages are one batch if padding is cheap, and many if it is not."""
        lens = np.arange(0, 20, dtype=np.int64) * 16 + 3
        rows = np.arange(len(lens))
        segments = Segments(rows, rows, np.ones_like(lens), np.zeros_like(lens), lens)
        tasks = split(segments, lens - 1, window=None, block_size=16, most_pages=np.full(20, 64))
        limits = {"most_pages": 1000, "most_rows": 1000, "most_pairs": 10**6}
        assert len(list(batches(tasks, 16, **limits))) == 13
        assert [len(each) for each in batches(tasks, 16, **limits, free_pages=1000)] == [1, 19]

    def test_one_long_among_many_short(self) -> None:
        """It costs no more than its own pages."""
        lens = np.array([8000, *(10,) * 255], dtype=np.int64)
        rows = np.arange(len(lens))
        segments = Segments(rows, rows, np.ones_like(lens), np.zeros_like(lens), lens)
        tasks = split(segments, lens - 1, window=None, block_size=16, most_pages=np.full(256, 64))
        cut = batches(tasks, 16, most_pages=64, most_rows=1000, most_pairs=64000)
        read = [(-(-b.num_tokens // 16)).max() * len(b) for b in cut]
        assert sum(read) == 500 + 255


class TestWiden:
    """Numbers of 8 bits."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("has_nan", [False, True])
    def test_is_torchs_conversion(self, dtype: torch.dtype, has_nan: bool) -> None:
        """Every byte, with and without those that are NaN."""
        stored = torch.arange(256, dtype=torch.uint8)
        stored = stored if has_nan else stored[(stored & 0x7F) != 0x7F]
        wide = torch.empty(len(stored), dtype=dtype)
        widen(stored, wide)
        assert torch.equal(wide.nan_to_num(9999), stored.view(FP8_DTYPE).to(dtype).nan_to_num(9999))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_is_exact_where_subnormal_numbers_are_flushed(self, dtype: torch.dtype) -> None:
        """The seven smallest of either sign are such numbers, and not the processor's to drop."""
        stored = torch.arange(256, dtype=torch.uint8)
        stored = stored[(stored & 0x7F) != 0x7F].repeat(3)  # whole vectors, and a rest
        wide, expected = torch.empty(len(stored), dtype=dtype), stored.view(FP8_DTYPE).double().tolist()
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor does not flush them")
        try:
            widen(stored, wide)
        finally:
            torch.set_flush_denormal(False)
        assert wide.tolist() == expected

    def test_more_than_is_converted_at_once(self) -> None:
        """A rest behind a whole piece; NaN in one of them."""
        stored = (torch.arange((1 << 20) + 5) % 127).to(torch.uint8)
        stored[-1] = 0x7F
        wide = torch.empty(len(stored))
        widen(stored, wide)
        assert wide[-1].isnan()
        assert torch.equal(wide[:-1], stored[:-1].view(FP8_DTYPE).float())

"""Slowdowns of real code: extra work in a function of ours, or more elements for a torch operation."""

from dataclasses import dataclass

from tests.measure.gate.scratch import Scratch

__all__ = ["PLACES", "Place"]

_FOLDER = "tests/perf_torch"
_ROWS = "NUM_ROWS = 1000\n"
_TORCH = '''"""Attention over a short context, as one torch operation after the other."""

import pytest

torch = pytest.importorskip("torch")
NUM_KEYS = 512


@pytest.mark.pagedkv_perf
def test_softmax(pagedkv_benchmark):
    from tests.perf_torch.rows import NUM_ROWS

    scores = torch.randn(NUM_ROWS, NUM_KEYS, generator=torch.Generator().manual_seed(0))
    pagedkv_benchmark(lambda: torch.softmax(scores, dim=-1))
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a slowdown is planted.

    Attributes:
        name: in tables.
        test: the benchmark that is to see it.
        file: the file that is changed.
        text: what is changed there.
        slower: what it becomes; `{amount}` says how much work is added.
        per_percent: amount of work that is about one percent; calibration corrects it.
    """

    name: str
    test: str
    file: str
    text: str
    slower: str
    per_percent: float

    def plant(self, scratch: Scratch, amount: int) -> None:
        """Add the work."""
        path = scratch.clone / self.file
        text = path.read_text()
        if text.count(self.text) != 1:
            raise ValueError(f"{self.file} has {text.count(self.text)} times {self.text!r}, and not once")
        path.write_text(text.replace(self.text, self.slower.format(amount=amount)))

    def prepare(self, scratch: Scratch) -> None:
        """Make files that only this place needs; they belong to the base."""
        if self.file.startswith(_FOLDER):
            folder = scratch.clone / _FOLDER
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").write_text('"""For the measurement."""\n')
            (folder / "test_torch.py").write_text(_TORCH)
            (scratch.clone / self.file).write_text(_ROWS)


_LOOPED = "for _ in range({amount}): pass"

PLACES = (
    Place(
        name="allocate",
        test="pytest_pagedkv/suite/test_churn.py::test_allocate_and_free[64]",
        file="pagedkv/block_pool.py",
        text="        try:\n            if not 0 <= n <= self._num_free:",
        slower=f"        {_LOOPED}\n        try:\n            if not 0 <= n <= self._num_free:",
        per_percent=2,
    ),
    Place(
        name="append_batch",
        test="pytest_pagedkv/suite/test_decode.py::test_decode_steps[16-uncached]",
        file="pagedkv/block_manager/manager.py",
        text="        rows = sequences.rows_of(seq_ids)\n        tokens = as_token_ids(token_ids)\n",
        slower=f"        {_LOOPED}\n        rows = sequences.rows_of(seq_ids)\n"
        "        tokens = as_token_ids(token_ids)\n",
        per_percent=12,
    ),
    Place(
        name="prefix look-up",
        test="pytest_pagedkv/suite/test_prefix.py::test_lookup_warm",
        file="pagedkv/block_manager/view.py",
        text="        require_namespace(namespace)\n"
        "        tokens = as_token_ids(token_ids)\n        found = 0",
        slower=f"        {_LOOPED}\n        require_namespace(namespace)\n"
        "        tokens = as_token_ids(token_ids)\n        found = 0",
        per_percent=25,
    ),
    Place(
        name="torch softmax",
        test=f"{_FOLDER}/test_torch.py::test_softmax",
        file=f"{_FOLDER}/rows.py",
        text=_ROWS,
        slower=f"{_ROWS.rstrip()} + {{amount}}\n",
        per_percent=10,
    ),
)

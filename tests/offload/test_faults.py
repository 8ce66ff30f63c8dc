"""Thousands of faults: no wrong byte, no hang, and everything comes home."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pagedkv.block_manager.paging import Paging
from pagedkv.errors import InvariantError
from pagedkv.offload.page_table import PageTable
from pagedkv.offload.storage import StorageMover
from pagedkv.offload.storage.page_file import PageFile
from tests.offload.fault_programs import FaultProgram
from tests.offload.storage.faulty_files import FileFault
from tests.offload.test_paging_model import FileMachine

NUM_STEPS = 400
DEADLINE_S = 300.0
NOT_FAULTS = {"blocks hit", "pages asked for", "pages to recompute", "out of blocks"}


def resources() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def run(seed: int, folder: Path, rates: Mapping[FileFault, float] | None = None) -> Counter[str]:
    """One program; what has happened."""
    before = resources()
    program = FaultProgram(seed, folder, rates)
    program.run(NUM_STEPS)
    assert resources() == before, seed
    assert not list(folder.iterdir())
    return program.counts + Counter({fault.name: number for fault, number in program.files.counts.items()})


@pytest.mark.parametrize("num_faults", [1_200, pytest.param(10_000, marks=pytest.mark.heavy)])
def test_faults(num_faults: int, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Whatever fails: a block that is hit holds what was computed, and what failed is computed again."""
    total: Counter[str] = Counter()
    num_programs = 0
    while sum(total[name] for name in total.keys() - NOT_FAULTS) < num_faults:
        total += run(num_programs, tmp_path)
        num_programs += 1
    for name, number in {**total, "programs": num_programs}.items():
        record_property(name, number)
    never = {fault.name for fault in FileFault} - total.keys()
    assert len(never) < 4 if num_faults < 10_000 else not never  # a disk that is seldom read shows some late
    assert min(total[name] for name in (*NOT_FAULTS, "aborted page-ins", "pinning refused")) > 0


@pytest.mark.parametrize("count", [3, pytest.param(300, marks=pytest.mark.heavy)])
def test_killed(count: int, tmp_path: Path) -> None:
    """Processes that are killed at any time leave nothing in the folder, and the next one opens it."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.offload.killed_programs", str(tmp_path), str(count)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert json.loads(run.stdout) == {"signals": [signal.SIGKILL], "left": []}


def no_checksum(_file: PageFile, _page: memoryview) -> int:
    """What is read is what was written, whatever it is."""
    return 0


def keeps_dropped(_paging: Paging) -> None:
    """Pages that gave way stay in the index."""


def frees_at_once(table: PageTable, page: int) -> None:
    """What a page has is free though copies use it."""
    _forget(table, page)
    table.drop_slot(page)
    table.drop_place(page)


def load_elsewhere(mover: StorageMover, slots: object, blocks: object) -> int:
    """Pages come in another order."""
    return _load(mover, slots[::-1], blocks)


def let_go_early(paging: Paging, page_in: object) -> None:
    """All blocks of a page-in that is given up are free, though pages come to them."""
    _end(paging, page_in)
    if page_in in paging._held:
        page_in.num_left = 0
        paging._let_go(page_in)


@pytest.mark.heavy
def test_planted_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for what threads seldom show: programs of copies that end when they are told to."""
    monkeypatch.setattr(PageTable, "forget", frees_at_once)
    with pytest.raises((AssertionError, InvariantError, IndexError)):
        run_state_machine_as_test(
            FileMachine, settings=settings(max_examples=300, deadline=None, phases=[Phase.generate])
        )


_forget, _load, _end = PageTable.forget, StorageMover.load, Paging.end


CORRUPTING = {FileFault.FLIPPED_BIT: 0.3, FileFault.LOST_WRITE: 0.3}


@pytest.mark.parametrize(
    ("owner", "name", "fault", "rates"),
    [
        (PageFile, "_checksum", no_checksum, CORRUPTING),
        (Paging, "_forget_dropped", keeps_dropped, None),
        (StorageMover, "load", load_elsewhere, None),
        (Paging, "end", let_go_early, None),
    ],
    ids=["no checksum", "index", "elsewhere", "early"],
)
def test_planted(
    owner: type,
    name: str,
    fault: Callable[..., object],
    rates: Mapping[FileFault, float] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control: programs find a fault of ours."""
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises((AssertionError, InvariantError, KeyError, ValueError)):  # noqa: PT012 - any of them
        for seed in range(40):
            run(seed, tmp_path, rates)

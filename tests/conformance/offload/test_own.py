"""pagedkv's own tiers keep the offload contract."""

import time
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

from pytest_pagedkv.adapters.failing_files import FailingFiles
from pytest_pagedkv.adapters.pagedkv_offload import AmpleHostAdapter, HostOnlyAdapter, PagedKVOffloadAdapter
from pytest_pagedkv.conformance.offload.adapter import Fault
from pytest_pagedkv.conformance.offload.checked import CheckedOffload
from pytest_pagedkv.conformance.offload.suite import OffloadConformance


class TestOwn(OffloadConformance):
    """Most pages come from the file."""

    adapter = PagedKVOffloadAdapter


class DeniedAndFull(AmpleHostAdapter):
    """Only with the faults that the other one does not take."""

    faults = Fault.DISK_FULL | Fault.PERMISSION_DENIED


class TestDeniedAndFull(OffloadConformance):
    """Most pages come from the host."""

    adapter = DeniedAndFull


def test_short_reads_are_of_one_handle(tmp_path: Path) -> None:
    """Found by a random program: a place whose page reads come back short of went to another handle."""
    offload = CheckedOffload(
        PagedKVOffloadAdapter, tmp_path, num_blocks=3, block_bytes=4096, capacity_blocks=4
    )
    for block in (0, 1):
        offload.store(block)
        offload.wait(-1)
    offload.inject(Fault.SHORT_READ, 0)
    offload.drop(0)
    for block in (2, 0, 1):
        offload.store(block)
        offload.wait(-1)
    for pick in range(4):
        offload.load(pick, 0)
        offload.wait(-1)
    offload.close()


@pytest.mark.heavy
class TestAmpleHost(OffloadConformance):
    """With all faults."""

    adapter = AmpleHostAdapter


@pytest.mark.heavy
class TestHostOnly(OffloadConformance):
    """All pages come from the host."""

    adapter = HostOnlyAdapter


class FirstInFirstOut(PagedKVOffloadAdapter):
    """One thread and the page cache of the operating system."""

    settings: ClassVar = {"policy": "fifo", "direct_io": False, "io_threads": 1, "queue_depth": 1}


@pytest.mark.heavy
class TestFirstInFirstOut(OffloadConformance):
    """Another order, and no two copies at once."""

    adapter = FirstInFirstOut


class Adaptive(PagedKVOffloadAdapter):
    """Pages are known by their content."""

    settings: ClassVar = {"policy": "arc", "io_threads": 4}


@pytest.mark.heavy
class TestAdaptive(OffloadConformance):
    """An order that adapts, and many copies at once."""

    adapter = Adaptive


def test_a_host_with_room_for_all_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay: pages that were dropped while a slow disk wrote them had the slots of others, which left."""
    write = FailingFiles.write

    slow = iter(range(3))

    def slowly(files: FailingFiles, fd: int, page: memoryview, offset: int) -> int:
        if next(slow, None) is not None:
            time.sleep(0.3)
        return write(files, fd, page, offset)

    monkeypatch.setattr(FailingFiles, "write", slowly)
    offload = CheckedOffload(DeniedAndFull, tmp_path, num_blocks=4, block_bytes=4096, capacity_blocks=4)
    for block in range(4):
        offload.store(block)
        offload.wait(0)
    time.sleep(0.05)  # the fourth page is in the file, the others are not
    offload.drop(0)
    offload.inject(Fault.PERMISSION_DENIED, 0)
    offload.store(1)
    offload.wait(-1)
    for handle in range(3):
        offload.load(handle, 0)
        offload.wait(-1)
    offload.close()

"""The suite: subclass it, and name the adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import ClassVar

import pytest

from pytest_pagedkv.adapter import Adapter, KnownFailure
from pytest_pagedkv.conformance.offload.adapter import Fault, OffloadAdapter
from pytest_pagedkv.conformance.offload.checked import CheckedOffload
from pytest_pagedkv.conformance.offload.programs import OffloadMachine
from pytest_pagedkv.conformance.searching import check_known, reporting, run_programs
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["OffloadConformance"]


def _need(adapter: type[OffloadAdapter], *faults: Fault) -> None:
    for fault in faults:
        if fault not in adapter.faults:
            pytest.skip(f"{adapter.__name__} cannot simulate {fault.name}")


class OffloadConformance:
    """Tests of a tier that holds KV blocks outside the device.

    Subclass it in a test file, `class TestMine(OffloadConformance): adapter = MyTier`, or give the adapter on
    the command line. How many programs are tried follows the Hypothesis profile.

    Attributes:
        adapter_type: what an adapter has to be.
        adapter: the tier that is tested; None for that of --pagedkv-adapter.
        call_limit_s: how long a call may take; a wait takes up to the adapter's `timeout_s`.
    """

    adapter_type: ClassVar[type[Adapter]] = OffloadAdapter
    adapter: ClassVar[type[OffloadAdapter] | None] = None
    call_limit_s: ClassVar[float] = 20.0

    def test_random_programs(self, pagedkv_adapter: type[OffloadAdapter]) -> None:
        """Without faults every block comes back, whatever is in flight meanwhile."""
        with reporting(pagedkv_adapter):
            run_programs(OffloadMachine, pagedkv_adapter, Watch(self.call_limit_s), share=0.5)

    @pytest.mark.parametrize("fault", [str(fault.name) for fault in Fault])
    def test_fault(self, pagedkv_adapter: type[OffloadAdapter], tmp_path: Path, fault: str) -> None:
        """With a fault, bytes come back or a documented error does; what it does not hit is not lost."""
        _need(pagedkv_adapter, Fault[fault])
        for pick in range(3):
            with self._checked(pagedkv_adapter, tmp_path / str(pick)) as checked:
                self._run_with(checked, Fault[fault], pick)
        watch = Watch(self.call_limit_s)
        with reporting(pagedkv_adapter):
            run_programs(OffloadMachine, pagedkv_adapter, watch, share=0.25, fault=Fault[fault])

    def _run_with(self, checked: CheckedOffload, fault: Fault, pick: int) -> None:
        """Store, drop and load, before the fault, during it and after it."""
        for block in range(4):
            checked.store(block)
            checked.wait(0)
        checked.drop(pick)
        if fault == Fault.KILLED_PROCESS:
            checked.kill()
        else:
            checked.inject(fault, pick)
        checked.store(1)
        checked.wait(-1)
        for handle in range(3):
            checked.load((pick + handle) % 3, 0)
            checked.wait(-1)
        checked.close()

    def test_overwritten_source(self, pagedkv_adapter: type[OffloadAdapter], tmp_path: Path) -> None:
        """On a slow disk a source is overwritten when it may be; stored is what was there before."""
        _need(pagedkv_adapter, Fault.SLOW_DISK)
        with self._checked(pagedkv_adapter, tmp_path) as checked:
            checked.inject(Fault.SLOW_DISK, 0)
            for block in (0, 1, 0):
                checked.store(block)
                checked.poll()
            checked.wait(0)
            checked.close()

    def test_load_that_takes_too_long(self, pagedkv_adapter: type[OffloadAdapter], tmp_path: Path) -> None:
        """A load that was given up on does not write its block later."""
        _need(pagedkv_adapter, Fault.SLOW_DISK)
        with self._checked(pagedkv_adapter, tmp_path) as checked:
            checked.store(0)
            checked.wait(0)
            checked.inject(Fault.SLOW_DISK, 0)
            for block in (1, 2):
                checked.load(0, block)
                checked.wait(-1)
            checked.heal()
            checked.close()

    def test_kill_during_a_store(self, pagedkv_adapter: type[OffloadAdapter], tmp_path: Path) -> None:
        """What a killed process has begun to write is not taken for a block, and takes no space."""
        _need(pagedkv_adapter, Fault.SLOW_DISK, Fault.KILLED_PROCESS)
        with self._checked(pagedkv_adapter, tmp_path) as checked:
            checked.store(0)
            checked.wait(0)
            checked.inject(Fault.SLOW_DISK, 0)
            for block in range(3):
                checked.store(block)
                checked.wait(0)
            checked.kill()
            checked.store(1)
            checked.close()

    def test_known_failures(self, pagedkv_adapter: type[OffloadAdapter], tmp_path: Path) -> None:
        """Every known failure is still there; a note about one that is gone has to go too."""

        def run(known: KnownFailure) -> None:
            folder = Path(mkdtemp(dir=tmp_path))
            with self._open(pagedkv_adapter, folder, known.num_blocks, known.block_size) as checked:
                for name, *arguments in known.program:
                    getattr(checked, name)(*arguments)

        check_known(pagedkv_adapter, run)

    @contextmanager
    def _checked(self, adapter: type[OffloadAdapter], folder: Path) -> Iterator[CheckedOffload]:
        with reporting(adapter), self._open(adapter, folder, 4, adapter.block_bytes_taken[-1]) as checked:
            yield checked

    @contextmanager
    def _open(
        self, adapter: type[OffloadAdapter], folder: Path, num_blocks: int, block_bytes: int
    ) -> Iterator[CheckedOffload]:
        """A tier that keeps as many blocks as the device has."""
        watch = Watch(self.call_limit_s)
        with watch.running():
            checked = CheckedOffload(adapter, folder, num_blocks, block_bytes, num_blocks, watch)
            try:
                yield checked
            finally:
                checked.abandon()

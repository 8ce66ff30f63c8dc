"""Random programs for an offload tier, with one kind of fault each."""

import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from pytest_pagedkv.conformance.offload.adapter import Fault
from pytest_pagedkv.conformance.offload.checked import CheckedOffload
from pytest_pagedkv.conformance.searching import ProgramMachine

__all__ = ["OffloadMachine"]

_NUM_BLOCKS = 3

_blocks = st.integers(0, _NUM_BLOCKS - 1)
_picks = st.integers(0, 7)


class OffloadMachine(ProgramMachine):
    """Blocks are written, stored, loaded and dropped while copies are in flight.

    Rules have no preconditions but the fault's: what has ended depends on threads, and a program must not.

    Attributes:
        fault: what happens besides; Fault.NONE for nothing.
    """

    fault: ClassVar[Fault] = Fault.NONE

    checked: CheckedOffload

    @initialize(size=_picks, capacity_blocks=st.sampled_from((4, 3, 2, 1)))
    def make(self, size: int, capacity_blocks: int) -> None:
        """Make a tier."""
        self.folder = Path(tempfile.mkdtemp(prefix="pagedkv-offload-"))
        sizes = self.adapter.block_bytes_taken
        made = self.run(
            lambda: CheckedOffload(
                self.adapter,
                self.folder,
                _NUM_BLOCKS,
                sizes[size % len(sizes)],
                capacity_blocks,
                self.watch,
            )
        )
        if made is not None:
            self.checked = made

    @rule(block=_blocks)
    def write(self, block: int) -> None:
        """Write a block."""
        self.run(self.checked.write, block)

    @rule(block=_blocks)
    def store(self, block: int) -> None:
        """Store a block."""
        self.run(self.checked.store, block)

    @rule(num_stores=st.integers(1, 4))
    def fill(self, num_stores: int) -> None:
        """Store some blocks, and see them done."""
        for block in range(num_stores):
            self.run(self.checked.store, block % _NUM_BLOCKS)
            self.run(self.checked.wait, -1)

    @rule(pick=_picks, block=_blocks)
    def load(self, pick: int, block: int) -> None:
        """Load a stored block."""
        self.run(self.checked.load, pick, block)

    @rule(pick=_picks)
    def drop(self, pick: int) -> None:
        """Drop a stored block."""
        self.run(self.checked.drop, pick)

    @rule()
    def poll(self) -> None:
        """See what has ended."""
        self.run(self.checked.poll)

    @rule()
    def drain(self) -> None:
        """See everything end."""
        self.run(self.checked.drain)

    @rule(pick=_picks)
    def wait(self, pick: int) -> None:
        """Wait for a copy."""
        self.run(self.checked.wait, pick)

    @rule()
    def misuse(self) -> None:
        """Load and drop what is not stored."""
        self.run(self.checked.misuse)

    @precondition(lambda machine: machine.fault & ~Fault.KILLED_PROCESS)
    @rule(pick=_picks)
    def inject(self, pick: int) -> None:
        """Make the fault happen."""
        self.run(self.checked.inject, self.fault, pick)

    @precondition(lambda machine: machine.fault & ~Fault.KILLED_PROCESS)
    @rule(pick=_picks, block=_blocks)
    def inject_and_load(self, pick: int, block: int) -> None:
        """Make the fault happen to a block that is loaded then."""
        self.run(self.checked.inject, self.fault, pick)
        self.run(self.checked.load, pick, block)
        self.run(self.checked.wait, -1)

    @precondition(lambda machine: machine.fault & ~Fault.KILLED_PROCESS)
    @rule()
    def heal(self) -> None:
        """End the fault."""
        self.run(self.checked.heal)

    @precondition(lambda machine: machine.fault & Fault.KILLED_PROCESS)
    @rule()
    def kill(self) -> None:
        """Kill the process."""
        self.run(self.checked.kill)

    def teardown(self) -> None:
        """Everything comes back, then all space does."""
        try:
            if hasattr(self, "checked"):
                self.run(self.checked.close)
        finally:
            if hasattr(self, "checked"):
                self.checked.abandon()
            shutil.rmtree(self.folder, ignore_errors=True)

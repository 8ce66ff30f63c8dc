"""A tier whose every copy is verified; the harness overwrites each block as soon as it may."""

import time
from contextlib import suppress

from pytest_pagedkv.conformance.checking import operation
from pytest_pagedkv.conformance.offload.adapter import Fault
from pytest_pagedkv.conformance.offload.copies import Store, Stored, file_usage
from pytest_pagedkv.conformance.offload.copying import Copying
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["CheckedOffload"]

_POLL_S = 0.001

_LASTING = Fault.FLIPPED_BIT | Fault.FILE_DELETED


class CheckedOffload(Copying):
    """A tier and its device blocks. Raises `InvariantViolation` at the first byte that is wrong.

    Operations that an engine would not do, such as writing a busy block, do nothing, so that programs are the
    same whatever the timing. After a violation the tier is of no further use.

    Args:
        adapter: the tier's class.
        folder: an empty folder.
        num_blocks: device blocks.
        block_bytes: size of a block.
        capacity_blocks: most blocks that the tier keeps.
        watch: the time limit for a call; None sets none.

    Attributes:
        stored: what is stored, by handle. Read only.
        in_flight: stores and loads, by operation. Read only.
    """

    # ---- operations

    @operation
    def write(self, block: int) -> None:
        """Write a block, as the model does, if it is not busy."""
        if block not in self._busy():
            self._write(block)
        self._observe()

    @operation
    def store(self, block: int) -> None:
        """Start to store a block, if nothing is being loaded to it."""
        if block not in self._targets():
            self._store(block)
        self._observe()

    @operation
    def load(self, pick: int, block: int) -> None:
        """Start to load one of the stored blocks, if the block is not busy."""
        if self.stored and block not in self._busy():
            handles = sorted(self.stored)
            self._load(handles[pick % len(handles)], block)
        self._observe()

    @operation
    def drop(self, pick: int) -> None:
        """Forget one of the stored blocks."""
        if self.stored:
            handles = sorted(self.stored)
            self._drop(handles[pick % len(handles)])
        self._observe()

    @operation
    def poll(self) -> None:
        """See what has ended."""
        self._poll()
        self._observe()

    @operation
    def drain(self) -> None:
        """Poll until everything has ended, unless a fault keeps it from that."""
        deadline = time.monotonic() + self._tier.timeout_s
        while self.in_flight and not self._faults & Fault.SLOW_DISK:
            self._poll()
            self._observe()
            if self.in_flight and time.monotonic() > deadline:
                raise InvariantViolation("no-hang", f"{self._tier.timeout_s:g} s of poll bring no end")
            time.sleep(_POLL_S)

    @operation
    def wait(self, pick: int) -> None:
        """Wait for one of the copies in flight."""
        if self.in_flight:
            copies = sorted(self.in_flight)
            self._wait(copies[pick % len(copies)])
        self._observe()

    @operation
    def misuse(self) -> None:
        """Load and drop what is not stored."""
        unknown = max([-1, *self.stored, *self.in_flight]) + 1_000
        self._misuse(self._tier.submit_load, KeyError, unknown, 0)
        self._misuse(self._tier.drop, KeyError, unknown)
        self._observe()

    @operation
    def inject(self, fault: Fault, pick: int) -> None:
        """Make a fault happen; those that hit a stored block need one."""
        hits_one = fault & (_LASTING | Fault.SHORT_READ)
        if hits_one and not self.stored:
            return
        handle = sorted(self.stored)[pick % len(self.stored)] if self.stored else -1
        self._call(self._tier.inject, (), fault, handle)
        for other, stored in self.stored.items():
            is_hit = other == handle or fault == Fault.FILE_DELETED
            stored.is_hit |= is_hit and bool(fault & _LASTING)
            stored.is_short |= is_hit and fault == Fault.SHORT_READ
        self._faults |= fault & ~_LASTING
        for copy in self.in_flight.values():
            copy.faults |= self._met_by(copy) | fault & _LASTING
        self._observe()

    @operation
    def heal(self) -> None:
        """End the faults that do not last."""
        self._heal()
        self._observe()

    @operation
    def kill(self) -> None:
        """Kill the tier's process, and open its folder anew."""
        self._call(self._tier.kill, ())
        known = dict(self.stored)
        known |= {i: Stored(c.data) for i, c in self.in_flight.items() if isinstance(c, Store)}
        self.in_flight.clear()
        self.stored.clear()
        self._faults = Fault.NONE
        self._tier = self._opened()
        for handle in self._listed():
            if handle not in known:
                raise InvariantViolation("stale-files", f"handle {handle} is there; nobody has stored it")
            known[handle].is_left = True
            self.stored[handle] = known[handle]
        self._observe()

    @operation
    def close(self) -> None:
        """End the faults, load everything, drop everything, and check that all space is there again."""
        self._heal()
        self._settle()
        for handle in sorted(self.stored):
            self._load(handle, 0)
            self._settle()
        lost = {handle for handle, stored in self.stored.items() if stored.is_hit}
        missing = set(self.stored) - lost - set(self._listed())
        if missing:
            raise InvariantViolation("survives", f"handles {sorted(missing)} are not in stored()")
        self._check_space()

    def abandon(self) -> None:
        """Stop the tier after a violation, whatever it says to that."""
        with suppress(InvariantViolation):
            self._call(self._tier.close, ())

    # ---- the end

    def _heal(self) -> None:
        self._call(self._tier.heal, ())
        self._faults = Fault.NONE
        for stored in self.stored.values():
            stored.is_short = False

    def _check_space(self) -> None:
        """Drop everything, fill the tier, drop everything again: its files are those of a new tier then."""
        used, new = self._emptied_usage(), self._new()
        try:
            fresh = new._emptied_usage()  # noqa: SLF001 - of our own kind
        finally:
            new.abandon()
        if used[0] > fresh[0] or used[1] > fresh[1] + self._tier.slack_bytes:
            raise InvariantViolation(
                "space-home",
                f"with nothing stored there are {used[0]} files of {used[1]} bytes; a new tier that was "
                f"filled and emptied has {fresh[0]} of {fresh[1]}",
            )

    def _new(self) -> "CheckedOffload":
        num_blocks, block_bytes, capacity_blocks = self._sizes
        return CheckedOffload(
            self._kind, self._folder.with_name("new"), num_blocks, block_bytes, capacity_blocks, self._watch
        )

    def _emptied_usage(self) -> tuple[int, int]:
        """Files and bytes of the closed tier, after it was emptied, filled and emptied."""
        self._empty()
        for _ in range(self._tier.capacity_blocks + 1):  # the last one is one too many
            self._store(0)
            self._settle()
        self._empty()
        self._call(self._tier.close, ())
        return file_usage(self._folder)

    def _empty(self) -> None:
        for handle in sorted(self.stored):
            self._drop(handle)
        if left := self._listed():
            raise InvariantViolation("space-home", f"everything is dropped; handles {left} are still stored")

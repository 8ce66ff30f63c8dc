"""The harness's side of a tier: blocks that are overwritten as soon as they may be, and copies in flight."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from pytest_pagedkv.conformance.checking import Checked
from pytest_pagedkv.conformance.offload.adapter import (
    BlockLost,
    Done,
    Fault,
    OffloadAdapter,
    OffloadError,
    TierFull,
    TierUnavailable,
)
from pytest_pagedkv.conformance.offload.copies import Load, Store, Stored, pattern, share_of
from pytest_pagedkv.conformance.offload.invariants import INVARIANTS
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["Copying", "list_of"]

T = TypeVar("T")

_STALLED_S = 0.005
"""How long to wait for what a fault keeps from ending."""


class Copying(Checked):
    """Copies blocks from and to a tier, and checks what comes of it. See `CheckedOffload`."""

    invariants = INVARIANTS
    _hung = "no-hang"
    _fixtures = "tmp_path"

    def __init__(
        self,
        adapter: type[OffloadAdapter],
        folder: Path,
        num_blocks: int,
        block_bytes: int,
        capacity_blocks: int,
        watch: Watch | None = None,
    ) -> None:
        made_with = {
            "num_blocks": num_blocks,
            "block_bytes": block_bytes,
            "capacity_blocks": capacity_blocks,
        }
        super().__init__(adapter, watch, made_with)
        self._kind = adapter
        self.stored: dict[int, Stored] = {}
        self.in_flight: dict[int, Store | Load] = {}
        self._folder, self._sizes = folder / "tier", (num_blocks, block_bytes, capacity_blocks)
        self._memory: dict[int, bytes] = {}
        self._faults = Fault.NONE
        self._num_written = 0
        self._tier = self._opened()

    # ---- blocks

    def _opened(self) -> OffloadAdapter:
        num_blocks, block_bytes, capacity_blocks = self._sizes
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tier = self._make(num_blocks, block_bytes, self._folder, capacity_blocks)
        for block in range(num_blocks):
            self._write(block)
        return self._tier

    def _write(self, block: int) -> None:
        """Write bytes to a block that are nowhere else."""
        self._num_written += 1
        data = pattern(self._num_written, self._sizes[1])
        self._call(self._tier.write_block, (), block, data)
        self._memory[block] = data
        for store in self.in_flight.values():
            if isinstance(store, Store) and store.block == block:
                store.overwritten.append(data)

    def _busy(self) -> Collection[int]:
        return list_of(int, self._call(self._tier.busy_blocks, ()))

    def _listed(self) -> list[int]:
        return sorted(list_of(int, self._call(self._tier.stored, ())))

    def _targets(self) -> dict[int, int]:
        """The loads in flight, by their block."""
        return {copy.block: i for i, copy in self.in_flight.items() if isinstance(copy, Load)}

    def _observe(self) -> None:
        """Overwrite every source that may be written, and check every block that may not have changed."""
        busy, targets = self._busy(), self._targets()
        for block, load in targets.items():
            if block not in busy:
                raise InvariantViolation(
                    "busy-until-done",
                    f"{self.in_flight[load]} is not reported as done; the block is not busy",
                )
        for store in self.in_flight.values():
            if isinstance(store, Store) and store.block not in busy and not store.overwritten:
                self._write(store.block)
        for block, data in self._memory.items():
            if block not in targets and self._call(self._tier.read_block, (), block) != data:
                raise InvariantViolation(
                    "late-write", f"block {block} has changed; no load to it is in flight"
                )

    # ---- copies

    def _store(self, block: int) -> int | None:
        num_stores = sum(isinstance(copy, Store) for copy in self.in_flight.values())
        is_beyond = len(self.stored) + num_stores >= self._tier.capacity_blocks
        store = Store(block, self._memory[block], is_beyond)
        return self._submit(store, self._tier.submit_store, block)

    def _load(self, handle: int, block: int) -> int | None:
        self._write(block)  # so that what is there by chance is not taken for what is loaded
        load = Load(handle, block, self.stored[handle])
        return self._submit(load, self._tier.submit_load, handle, block)

    def _submit(self, copy: Store | Load, submit: Callable[..., int], *args: int) -> int | None:
        """Start a copy. Returns the operation, or None if it was refused."""
        copy.faults |= self._met_by(copy)
        try:
            [copy_id] = list_of(int, [self._call(submit, (OffloadError, KeyError), *args)])
        except KeyError:
            raise InvariantViolation("survives", f"{copy} was refused: the tier does not know it") from None
        except OffloadError as error:
            if not (isinstance(error, TierUnavailable) and self.in_flight):  # a full queue is no fault
                self._check_error(copy, error)
            return None
        if copy_id in self.in_flight or copy_id in self.stored:
            raise InvariantViolation("done-once", f"operation {copy_id} is in use, and is given to {copy}")
        self.in_flight[copy_id] = copy
        return copy_id

    def _met_by(self, copy: Store | Load) -> Fault:
        """The faults that are there now and can hit a copy."""
        if isinstance(copy, Load) and not copy.stored.is_short:
            return self._faults & ~Fault.SHORT_READ
        return self._faults

    def _drop(self, handle: int) -> None:
        stored = self.stored.pop(handle)
        try:
            self._call(self._tier.drop, (KeyError,), handle)
        except KeyError:
            if not stored.is_hit:
                raise InvariantViolation("survives", f"handle {handle} is not known to drop") from None
        for copy in self.in_flight.values():
            if isinstance(copy, Load) and copy.handle == handle:
                copy.is_dropped = True

    def _wait(self, copy_id: int) -> None:
        is_stalled = bool(self._faults & Fault.SLOW_DISK)
        timeout_s = _STALLED_S if is_stalled else self._tier.timeout_s
        try:
            done = self._call(self._tier.wait, (TimeoutError,), copy_id, timeout_s)
        except TimeoutError:
            if not is_stalled:
                raise InvariantViolation(
                    "no-hang", f"{self.in_flight[copy_id]} has not ended in {timeout_s:g} s"
                ) from None
            return
        self._end(*list_of(Done, [done]))
        if copy_id in self.in_flight:
            raise InvariantViolation(
                "done-once", f"wait for operation {copy_id} has reported {done.operation}"
            )

    def _poll(self) -> None:
        for done in list_of(Done, self._call(self._tier.poll, ())):
            self._end(done)

    def _settle(self) -> None:
        """Wait for all copies."""
        while self.in_flight:
            self._wait(min(self.in_flight))
        self._observe()

    def _end(self, done: Done) -> None:
        """A copy has ended: check how."""
        copy = self.in_flight.pop(done.operation, None)
        if copy is None:
            raise InvariantViolation("done-once", f"{done} is reported; no such operation is in flight")
        if done.error is not None:
            self._check_error(copy, done.error)
            if isinstance(copy, Load):
                self._write(copy.block)
        elif isinstance(copy, Store):
            self._keep(done.operation, copy)
        else:
            self._check_loaded(copy)

    def _keep(self, handle: int, store: Store) -> None:
        is_hit = bool(store.faults & Fault.FILE_DELETED)
        self.stored[handle] = Stored(store.data, store.overwritten, is_hit)
        if len(self.stored) > self._tier.capacity_blocks:
            raise InvariantViolation(
                "capacity", f"{len(self.stored)} blocks are stored; the tier was made for fewer"
            )

    def _check_loaded(self, load: Load) -> None:
        stored, found = load.stored, self._call(self._tier.read_block, (), load.block)
        self._memory[load.block] = found
        if found == stored.data:
            return
        detail = f"{load} ended without error; {share_of(found, stored.data):.0%} of the block is as stored"
        late = max((share_of(found, data) for data in stored.overwritten), default=0.0)
        others = [handle for handle, other in self.stored.items() if other.data == found]
        if late and not others:
            raise InvariantViolation(
                "no-early-free",
                f"{detail}, {late:.0%} was written to the source when that was said not to be busy",
            )
        detail += f"; it has the bytes of handle {others[0]}" if others else ""
        raise InvariantViolation("stale-files" if stored.is_left else "bytes-equal", detail)

    def _check_error(self, copy: Store | Load, error: object) -> None:
        if not isinstance(error, OffloadError):
            raise InvariantViolation(
                "documented-errors", f"{copy} ended with {error!r}, which is no OffloadError"
            )
        if type(error) not in copy.allowed:
            raise InvariantViolation(
                "space-home" if isinstance(error, TierFull) else "survives",
                f"{copy} ended with {type(error).__name__}: {error}. Faults that it met: {copy.faults.name}; "
                f"allowed: {', '.join(sorted(kind.__name__ for kind in copy.allowed)) or 'no error'}",
            )
        if isinstance(copy, Load) and isinstance(error, BlockLost) and copy.handle in self.stored:
            copy.stored.is_hit = True
            self._drop(copy.handle)

    def _state(self) -> str:
        rows = [f"operation {i}: {copy}, met {copy.faults.name}" for i, copy in self.in_flight.items()]
        return "\n".join([f"stored: {sorted(self.stored)}; faults: {self._faults.name}", *rows])


def list_of(kind: type[T], answer: object) -> list[T]:
    """An answer as the contract has it.

    Raises:
        InvariantViolation: it is something else.
    """
    if not isinstance(answer, Iterable):
        raise InvariantViolation("well-formed", f"the answer is {answer!r}, no collection")
    listed = list(answer)
    for value in listed:
        if not isinstance(value, kind):
            raise InvariantViolation("well-formed", f"{value!r} is in the answer; it must be {kind.__name__}")
    return listed

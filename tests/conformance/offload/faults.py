"""Tiers with one fault each."""

import queue
from pathlib import Path

from pytest_pagedkv.conformance.offload.adapter import BlockLost, Done, Fault, TierFull, TierUnavailable
from pytest_pagedkv.conformance.offload.suite import OffloadConformance
from tests.conformance.offload.reference import DIGEST_BYTES, Killed, PersistentTier, ReferenceTier
from tests.conformance.planting import Faults


class Impatient(OffloadConformance):
    """Does not wait long for what hangs."""

    call_limit_s = 2.0


FAULTS = Faults(Impatient)
planted = FAULTS.planted
RANDOM = "test_random_programs"


# ---- bytes


@planted("bytes-equal", "test_fault", fault="FLIPPED_BIT")
class ChecksNoDigest(ReferenceTier):
    """Takes any bytes of the right length."""

    def check(self, data):
        if len(data) != DIGEST_BYTES + self.block_bytes:
            raise BlockLost("short file")


@planted("bytes-equal", "test_fault", fault="SHORT_READ")
class PadsShortReads(ReferenceTier):
    """Takes what it read, and zeros for the rest."""

    def check(self, data):
        pass

    def put(self, block, data):
        super().put(block, data.ljust(self.block_bytes, b"\0"))


@planted("bytes-equal", RANDOM)
class ReadsTheLastFile(ReferenceTier):
    """Loads what was stored last."""

    def read_file(self, handle):
        return super().read_file(max(self.handles, default=handle))


@planted("bytes-equal", RANDOM)
class LoadsHalf(ReferenceTier):
    """Writes half of the block."""

    def put(self, block, data):
        self.device[block][: len(data) // 2] = data[: len(data) // 2]


@planted("bytes-equal", "test_fault", fault="FLIPPED_BIT")
class ChecksAfterCopying(ReferenceTier):
    """Reports the wrong digest to the log only."""

    def attempt(self, copy):
        error = super().attempt(copy)
        return None if isinstance(error, BlockLost) and "digest" in str(error) else error


# ---- who reads and writes which block


@planted("no-early-free", "test_overwritten_source")
class FreesBeforeReading(ReferenceTier):
    """Lets the source go when the copy is queued."""

    def take(self, block):
        with self.state:
            self.busy.remove(block)
        self.pass_gate()
        return self.read_block(block)


@planted("no-early-free", "test_fault", fault="SLOW_DISK")
class WritesFromTheBlock(ReferenceTier):
    """Reads the second half of the source when the first one is on disk."""

    def store(self, copy):
        early, middle = self.take(copy.block), self.block_bytes // 2
        self.pass_gate()
        self.keep(copy.operation, early[:middle] + self.read_block(copy.block)[middle:])


@planted("late-write", "test_load_that_takes_too_long")
class GivesUpOnALoad(ReferenceTier):
    """Reports a load that takes too long as failed; its thread writes the block all the same."""

    def wait(self, operation, timeout_s):
        try:
            return super().wait(operation, timeout_s)
        except TimeoutError:
            copy = self.in_flight[operation]
            if copy.handle is None:
                raise
            with self.state:
                self.done[operation] = Done(operation, TierUnavailable("too slow"))
                return self.report(operation)

    def run(self, copy):
        super().run(copy)
        with self.state:
            if copy.operation not in self.in_flight:
                del self.done[copy.operation]


@planted("late-write", RANDOM)
class WritesTheNextBlock(ReferenceTier):
    """Writes one block too many."""

    def put(self, block, data):
        super().put(block, data)
        with self.state:
            if (following := (block + 1) % self.num_blocks) not in self.busy:
                self.write_block(following, data)


@planted("busy-until-done", RANDOM)
class LoadsAreNotBusy(ReferenceTier):
    """Marks sources only."""

    def busy_blocks(self):
        loads = {copy.block for copy in list(self.in_flight.values()) if copy.handle is not None}
        return set(super().busy_blocks()) - loads


@planted("busy-until-done", RANDOM)
class FreesBeforeReporting(ReferenceTier):
    """Lets a block go when its load has ended."""

    def busy_blocks(self):
        with self.state:
            ended = {
                copy.block for i, copy in self.in_flight.items() if i in self.done and copy.handle is not None
            }
            return set(self.busy) - ended


# ---- reports


@planted("done-once", RANDOM)
class ReportsTwice(ReferenceTier):
    """Reports by poll what wait has reported."""

    def wait(self, operation, timeout_s):
        done = super().wait(operation, timeout_s)
        self.__dict__.setdefault("waited", []).append(done)
        return done

    def poll(self):
        return [*super().poll(), *self.__dict__.pop("waited", [])]


@planted("done-once", RANDOM)
class ReportsTheOldest(ReferenceTier):
    """Waits for whatever ends first."""

    def wait(self, operation, timeout_s):
        with self.state:
            if not self.state.wait_for(lambda: self.done, timeout_s):
                raise TimeoutError
            return self.report(max(self.done, key=lambda i: i != operation))


@planted("done-once", RANDOM)
class GivesAnIdTwice(ReferenceTier):
    """Starts again at 0 when nothing is in flight."""

    def new_id(self):
        if not self.in_flight and self.next_id > 3:
            self.next_id = min(self.handles, default=0)
        return super().new_id()


# ---- what survives


@planted("survives", "test_fault", fault="PERMISSION_DENIED")
class LosesWhatItCannotRead(ReferenceTier):
    """Takes a block that cannot be read now for lost."""

    def translated(self, error):
        return BlockLost(str(error)) if isinstance(error, PermissionError) else super().translated(error)


@planted("space-home", "test_fault", fault="DISK_FULL")
class LeaksReservations(ReferenceTier):
    """Keeps the room of a store that failed."""

    def attempt(self, copy):
        error = super().attempt(copy)
        if isinstance(error, TierFull):
            with self.state:
                self.reserved += 1
        return error


@planted("survives", RANDOM)
class DropsTheNeighbour(ReferenceTier):
    """Forgets the next handle, too."""

    def drop(self, handle):
        super().drop(handle)
        self.handles.discard(handle + 1)


@planted("survives", "test_fault", fault="FLIPPED_BIT")
class LosesEverything(ReferenceTier):
    """Empties the tier when a digest is wrong."""

    def check(self, data):
        try:
            super().check(data)
        except BlockLost:
            for path in self.folder.glob("*.kv"):
                path.unlink(missing_ok=True)
            raise


@planted("survives", "test_fault", fault="SLOW_DISK")
class StaysUnavailable(ReferenceTier):
    """Never uses a disk again that was slow."""

    def check_queue(self):
        if self.active & Fault.SLOW_DISK:
            self.was_slow = True
        if self.__dict__.get("was_slow"):
            raise TierUnavailable("slow disk")


@planted("capacity", RANDOM)
class KeepsOneMore(ReferenceTier):
    """Is off by one."""

    def has_room(self):
        return len(self.handles) + self.reserved <= self.capacity_blocks


@planted("capacity", "test_fault", fault="SLOW_DISK")
class CountsWhatIsDone(ReferenceTier):
    """Does not count stores in flight."""

    def has_room(self):
        return len(self.handles) < self.capacity_blocks


# ---- hangs


@planted("no-hang", "test_fault", fault="PERMISSION_DENIED")
class ThreadsDie(ReferenceTier):
    """A thread ends with the first error that it does not expect."""

    timeout_s = 0.3

    def translated(self, error):
        if isinstance(error, PermissionError):
            raise Killed
        return super().translated(error)


@planted("no-hang", "test_fault", fault="SLOW_DISK")
class WaitsForEver(ReferenceTier):
    """Ignores the time-out."""

    def wait(self, operation, timeout_s):
        return super().wait(operation, 1_000.0)


@planted("no-hang", "test_overwritten_source")
class BlocksOnAFullQueue(ReferenceTier):
    """Waits in submit until there is room in the queue."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.slots: queue.Queue[None] = queue.Queue(2)

    def submit(self, copy):
        self.slots.put(None)
        return super().submit(copy)

    def run(self, copy):
        super().run(copy)
        self.slots.get()


# ---- after a kill


@planted("stale-files", "test_kill_during_a_store")
class TakesDraftsOver(PersistentTier):
    """Takes what was half written for a block."""

    def clean(self):
        for path in self.folder.glob("*.draft"):
            path.rename(path.with_suffix(".kv"))
        self.handles = {int(path.stem) for path in self.folder.glob("*.kv")}
        self.next_id = max(self.handles, default=-1) + 1

    def check(self, data):
        pass

    def put(self, block, data):
        super().put(block, data.ljust(self.block_bytes, b"\0"))


@planted("stale-files", "test_fault", fault="KILLED_PROCESS")
class BringsDroppedBlocksBack(PersistentTier):
    """Deletes the files of dropped blocks in the end."""

    def drop(self, handle):
        with self.state:
            self.handles.remove(handle)

    def close(self):
        super().close()
        for path in self.folder.glob("*.kv"):
            if not self.is_killed and int(path.stem) not in self.handles:
                path.unlink()


@planted("stale-files", "test_fault", fault="KILLED_PROCESS")
class MixesUpHandles(PersistentTier):
    """Numbers what it finds anew."""

    def clean(self):
        super().clean()
        self.found = sorted(self.handles)

    def path(self, handle):
        found = self.__dict__.get("found", [])
        return super().path(found[-1 - found.index(handle)] if handle in found else handle)


@planted("space-home", "test_kill_during_a_store")
class LeavesDrafts(ReferenceTier):
    """Deletes the blocks that another process left, but not its drafts."""

    def clean(self):
        for path in self.folder.glob("*.kv"):
            path.unlink()


@planted("space-home", "test_fault", fault="KILLED_PROCESS")
class LeavesWhatItFinds(ReferenceTier):
    """Neither uses nor deletes what another process left."""

    def clean(self):
        self.next_id = 1 + max((int(path.stem) for path in self.folder.glob("*.kv")), default=-1)


# ---- space


@planted("space-home", RANDOM)
class LeavesFiles(ReferenceTier):
    """Forgets a block, and not its file."""

    def drop(self, handle):
        with self.state:
            self.handles.remove(handle)


@planted("space-home", "test_fault", fault="DISK_FULL")
class LeavesHalfFiles(ReferenceTier):
    """Leaves what was written of a store that failed, under its own name."""

    def write_file(self, path: Path, data: bytes) -> None:
        super().write_file(path.with_suffix(".part"), data)
        path.with_suffix(".part").rename(path)


@planted("space-home", RANDOM)
class ListsDroppedHandles(ReferenceTier):
    """Lists what was stored once."""

    def stored(self):
        self.__dict__.setdefault("once", set()).update(self.handles)
        return self.once


# ---- errors


@planted("documented-errors", "test_fault", fault="DISK_FULL")
class TellsOSErrors(ReferenceTier):
    """Ends stores with the operating system's error."""

    def translated(self, error):
        return error


@planted("documented-errors", RANDOM)
class DropsAnything(ReferenceTier):
    """Accepts any handle."""

    def drop(self, handle):
        if handle in self.handles:
            super().drop(handle)


@planted("documented-errors", RANDOM)
class CallsUnknownLost(ReferenceTier):
    """Takes an unknown handle for a lost block."""

    def submit_load(self, handle, block_id):
        if handle not in self.handles:
            raise BlockLost(f"handle {handle}")
        return super().submit_load(handle, block_id)


@planted("documented-errors", "test_fault", fault="FILE_DELETED")
class DropFails(ReferenceTier):
    """Cannot forget a block whose file is gone."""

    def drop(self, handle):
        with self.state:
            self.handles.remove(handle)
            self.path(handle).unlink()


@planted("well-formed", RANDOM)
class ReturnsNone(ReferenceTier):
    """Returns nothing if nothing has ended."""

    def poll(self):
        return super().poll() or None


@planted("well-formed", RANDOM)
class ReturnsNumbers(ReferenceTier):
    """Returns operations rather than how they ended."""

    def poll(self):
        return [done.operation for done in super().poll()]

"""Tiers that keep the contract, of threads and files; every step is a method that a fault can replace."""

import errno
import hashlib
import queue
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_pagedkv.conformance.offload.adapter import (
    BlockLost,
    Done,
    Fault,
    OffloadAdapter,
    OffloadError,
    TierFull,
    TierUnavailable,
)

DIGEST_BYTES = 32


@dataclass
class Copy:
    """A store of a block, or a load of a handle to it."""

    operation: int
    block: int
    handle: int | None = None


class Killed(BaseException):
    """Ends the threads of a killed tier."""


class ReferenceTier(OffloadAdapter):
    """A file per block. A store reads its block into a buffer first; what another process left is deleted."""

    faults = ~Fault.NONE
    num_threads = 2
    queue_size = 16

    def __init__(self, num_blocks: int, block_bytes: int, folder: Path, capacity_blocks: int) -> None:
        super().__init__(num_blocks, block_bytes, folder, capacity_blocks)
        self.device = [bytearray(block_bytes) for _ in range(num_blocks)]
        self.state = threading.Condition()
        self.handles: set[int] = set()
        self.reserved = 0
        self.busy: list[int] = []
        self.done: dict[int, Done] = {}
        self.in_flight: dict[int, Copy] = {}
        self.next_id = 0
        self.active = Fault.NONE
        self.short: int | None = None
        self.is_killed = False
        self.is_moving = threading.Event()
        self.is_moving.set()
        self.work: queue.Queue[Copy | None] = queue.Queue()
        self.clean()
        self.threads = [threading.Thread(target=self.serve, daemon=True) for _ in range(self.num_threads)]
        for thread in self.threads:
            thread.start()

    def clean(self) -> None:
        """Delete what another process left."""
        for path in self.folder.iterdir():
            path.unlink()

    # ---- the device's side

    def write_block(self, block_id: int, data: bytes) -> None:
        """Write."""
        self.device[block_id][:] = data

    def read_block(self, block_id: int) -> bytes:
        """Read."""
        return bytes(self.device[block_id])

    # ---- submission

    def submit_store(self, block_id: int) -> int:
        """Reserve room, and queue."""
        with self.state:
            if not self.has_room():
                raise TierFull(f"{len(self.handles)} blocks are stored")
            self.check_queue()
            self.reserved += 1
            return self.submit(Copy(self.new_id(), block_id))

    def has_room(self) -> bool:
        """Whether one more block can be stored."""
        return len(self.handles) + self.reserved < self.capacity_blocks

    def submit_load(self, handle: int, block_id: int) -> int:
        """Queue."""
        with self.state:
            if handle not in self.handles:
                raise KeyError(handle)
            self.check_queue()
            return self.submit(Copy(self.new_id(), block_id, handle))

    def check_queue(self) -> None:
        """Refuse what would have to wait."""
        if len(self.in_flight) >= self.queue_size:
            raise TierUnavailable("the queue is full")

    def new_id(self) -> int:
        """The next operation."""
        self.next_id += 1
        return self.next_id - 1

    def submit(self, copy: Copy) -> int:
        """Queue a copy."""
        self.in_flight[copy.operation] = copy
        self.busy.append(copy.block)
        self.work.put(copy)
        return copy.operation

    # ---- completion

    def poll(self) -> Sequence[Done]:
        """What has ended."""
        with self.state:
            return [self.report(operation) for operation in list(self.done)]

    def wait(self, operation: int, timeout_s: float) -> Done:
        """Wait for one."""
        with self.state:
            if not self.state.wait_for(lambda: operation in self.done, timeout_s):
                raise TimeoutError(f"operation {operation}")
            return self.report(operation)

    def report(self, operation: int) -> Done:
        """Report one; the block of a load is free then."""
        copy = self.in_flight.pop(operation)
        if copy.handle is not None:
            self.busy.remove(copy.block)
        return self.done.pop(operation)

    def busy_blocks(self) -> Collection[int]:
        """Blocks that copies use."""
        with self.state:
            return set(self.busy)

    def drop(self, handle: int) -> None:
        """Delete the file."""
        with self.state:
            self.handles.remove(handle)
            self.path(handle).unlink(missing_ok=True)

    def stored(self) -> Collection[int]:
        """Handles."""
        with self.state:
            return set(self.handles)

    def close(self) -> None:
        """Stop the threads."""
        self.is_moving.set()
        for _ in self.threads:
            self.work.put(None)
        for thread in self.threads:
            thread.join(5)

    # ---- threads

    def serve(self) -> None:
        """Run copies."""
        try:
            while (copy := self.work.get()) is not None:
                self.run(copy)
        except Killed:
            pass

    def run(self, copy: Copy) -> None:
        """Run one copy, and keep how it ended."""
        error = self.attempt(copy)
        with self.state:
            if copy.handle is None:
                self.reserved -= 1
                if error is None:
                    self.handles.add(copy.operation)
            self.done[copy.operation] = Done(copy.operation, error)
            self.state.notify_all()

    def attempt(self, copy: Copy) -> OffloadError | None:
        """Run one copy; operating-system errors become documented ones."""
        try:
            self.store(copy) if copy.handle is None else self.load(copy)
        except OffloadError as error:
            return error
        except FileNotFoundError as error:
            return BlockLost(str(error))
        except OSError as error:
            return self.translated(error)
        return None

    def translated(self, error: OSError) -> OffloadError:
        """An error of the disk."""
        return TierFull(str(error)) if error.errno == errno.ENOSPC else TierUnavailable(str(error))

    def store(self, copy: Copy) -> None:
        """Buffer the block, let it go, and write the file."""
        self.keep(copy.operation, self.take(copy.block))

    def keep(self, handle: int, data: bytes) -> None:
        """Write the file under another name first."""
        path = self.path(handle)
        draft = path.with_suffix(".draft")
        try:
            self.write_file(draft, hashlib.sha256(data).digest() + data)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        draft.rename(path)

    def take(self, block: int) -> bytes:
        """Read a source, and say that it is free."""
        data = self.read_block(block)
        with self.state:
            self.busy.remove(block)
        return data

    def load(self, copy: Copy) -> None:
        """Read the file, check it, and write the block."""
        data = self.read_file(copy.handle)
        self.check(data)
        self.put(copy.block, data[DIGEST_BYTES:])

    def check(self, data: bytes) -> None:
        """Check length and digest."""
        if len(data) != DIGEST_BYTES + self.block_bytes:
            raise BlockLost("short file")
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
            raise BlockLost("wrong digest")

    def put(self, block: int, data: bytes) -> None:
        """Write a target."""
        self.write_block(block, data)

    # ---- files

    def path(self, handle: int) -> Path:
        """The file of a handle."""
        return self.folder / f"{handle}.kv"

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a file, half of it before the disk may stall or fill up."""
        self.check_access()
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.pass_gate()
            if self.active & Fault.DISK_FULL:
                raise OSError(errno.ENOSPC, "no space left on device")
            file.write(data[len(data) // 2 :])

    def read_file(self, handle: int) -> bytes:
        """Read a file."""
        self.check_access()
        self.pass_gate()
        data = self.path(handle).read_bytes()
        return data[:-7] if self.active & Fault.SHORT_READ and handle == self.short else data

    def check_access(self) -> None:
        """Simulate a folder without permissions."""
        if self.active & Fault.PERMISSION_DENIED:
            raise PermissionError("simulated")

    def pass_gate(self) -> None:
        """Simulate a slow disk, and the end of the process."""
        self.is_moving.wait()
        if self.is_killed:
            raise Killed

    # ---- faults

    def inject(self, fault: Fault, handle: int) -> None:
        """Simulate a fault."""
        if fault == Fault.FLIPPED_BIT:
            with suppress(FileNotFoundError):
                self.flip(self.path(handle))
        if fault == Fault.FILE_DELETED:
            self.path(handle).unlink(missing_ok=True)
        if fault == Fault.SLOW_DISK:
            self.is_moving.clear()
        self.active |= fault
        self.short = handle

    def flip(self, path: Path) -> None:
        """Change a bit of a file."""
        with path.open("r+b") as file:
            file.seek(DIGEST_BYTES + 5)
            [byte] = file.read(1)
            file.seek(DIGEST_BYTES + 5)
            file.write(bytes([byte ^ 1]))

    def heal(self) -> None:
        """End the simulation."""
        self.active = Fault.NONE
        self.is_moving.set()

    def kill(self) -> None:
        """End the threads where they are."""
        self.is_killed = True
        self.close()


class PersistentTier(ReferenceTier):
    """Uses what another process left, as far as it is whole."""

    def clean(self) -> None:
        """Delete what is not whole, and take the rest over."""
        for path in self.folder.iterdir():
            try:
                self.check(path.read_bytes())
                self.handles.add(int(path.stem))
            except BlockLost:
                path.unlink()
        self.next_id = max(self.handles, default=-1) + 1

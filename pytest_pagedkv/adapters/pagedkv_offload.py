"""pagedkv's own tiers below the device, on the CPU, over a file whose system calls can fail."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.clock import WallClock
from pagedkv.config import OffloadConfig
from pagedkv.events import EventStream
from pagedkv.offload.mover import Mover
from pagedkv.offload.tiers import PageTiers
from pytest_pagedkv.adapters.failing_files import FailingFiles
from pytest_pagedkv.conformance.offload.adapter import BlockLost, Done, Fault, OffloadAdapter, TierFull

if TYPE_CHECKING:
    from pagedkv.kv_store import KVStore

__all__ = ["AmpleHostAdapter", "HostOnlyAdapter", "PagedKVOffloadAdapter"]

_SLOT_BYTES = 4096
_TOKEN_BYTES = 64
_WAIT_S = 0.01
_LOST, _LANDED = -1, -2
"""Instead of the page of a handle: there is none any more; it is in the block of a load."""


@dataclass(slots=True)
class _Copy:
    """A store, or with a handle a load, that has not ended."""

    block: int
    handle: int | None
    ticket: int | None = None
    has_landed: bool = False


class PagedKVOffloadAdapter(OffloadAdapter):
    """`PageTiers` over a `StorageMover`, where the host keeps one page and the file the others.

    The tiers are a cache: what comes to the device leaves them, and what finds no room is lost. Here what has
    been loaded is stored again, from its block, and a copy waits while that would cost a page. Pages that
    cannot be read are lost, too: they are computed again, and not asked for twice. A folder that is denied
    for a while, or a full disk, is therefore left to `AmpleHostAdapter`.

    Attributes:
        is_ample: the host keeps all pages, and writes all of them to the file, if there is one.
        has_file: whether there is a file.
        settings: of the tiers.
    """

    faults = (
        Fault.SLOW_DISK | Fault.SHORT_READ | Fault.FLIPPED_BIT | Fault.FILE_DELETED | Fault.KILLED_PROCESS
    )
    is_ample: ClassVar[bool] = False
    has_file: ClassVar[bool] = True
    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, num_blocks: int, block_bytes: int, folder: Path, capacity_blocks: int) -> None:
        import torch

        from pagedkv.kv_store import KVStore
        from pagedkv.offload.storage.cpu import pages_of

        super().__init__(num_blocks, block_bytes, folder, capacity_blocks)
        store = KVStore(
            num_blocks=num_blocks,
            num_layers=2,
            block_size=block_bytes // _TOKEN_BYTES,
            num_kv_heads=1,
            head_dim=8,
            dtype=torch.float16,
        )
        num_hot = capacity_blocks + 1 if self.is_ample else 1
        config = OffloadConfig(pinned_bytes=(num_hot + 1) * _SLOT_BYTES, **self.settings)
        self._memory, self._files = pages_of(store), FailingFiles()
        self._tiers = PageTiers(
            self._mover(store, config),
            config,
            first_page=num_blocks,
            clock=WallClock(),
            events=EventStream(),
            num_staging=1,
            num_reserved=num_hot,
        )
        self._pages: dict[int, int] = {}
        self._copies: dict[int, _Copy] = {}
        self._ended: dict[int, tuple[Done, _Copy]] = {}
        self._num_operations = 0
        self._short: int | None = None  # the handle whose reads are short

    @classmethod
    def unavailable(cls) -> str:
        """Blocks are tensors."""
        return "" if find_spec("torch") else "pagedkv's tiers need torch: pip install 'pagedkv[torch]'"

    def _mover(self, store: "KVStore", config: OffloadConfig) -> Mover:
        """A mover that measures no bandwidth, which takes longer than most programs."""
        from pagedkv.offload.storage import StorageMover
        from pagedkv.offload.storage.cpu import CpuCopier
        from pagedkv.offload.storage.host_pool import HostPool
        from pagedkv.offload.storage.io_pool import Ended
        from pagedkv.offload.storage.page_file import PageFile

        ended = Ended()
        pool = HostPool.open(store.block_bytes, num_blocks=self.num_blocks, pinned_bytes=config.pinned_bytes)
        file = None
        if self.has_file:
            file = PageFile(
                self.folder,
                page_bytes=store.block_bytes,
                stride=pool.stride,
                max_bytes=2 * (self.capacity_blocks + 1) * pool.stride,
                direct_io=config.direct_io,
                files=self._files,
            )
        copier = CpuCopier(store, pool, ended)
        return StorageMover(
            copier, pool, file, ended, num_blocks=self.num_blocks, num_threads=config.io_threads
        )

    # ---- the device's side

    def write_block(self, block_id: int, data: bytes) -> None:
        """Write a device block."""
        block = self._memory[block_id]
        block[:] = np.frombuffer(data, np.uint8).reshape(block.shape)

    def read_block(self, block_id: int) -> bytes:
        """Read a device block."""
        data: bytes = self._memory[block_id].tobytes()
        return data

    # ---- the tier

    def submit_store(self, block_id: int) -> int:
        """Demote a block."""
        num_stores = sum(copy.handle is None for copy in self._copies.values())
        if len(self._pages) + num_stores >= self.capacity_blocks:
            raise TierFull(f"{self.capacity_blocks} blocks are stored")
        return self._submit(_Copy(block_id, None))

    def submit_load(self, handle: int, block_id: int) -> int:
        """Page in."""
        if handle not in self._pages:
            raise KeyError(handle)
        return self._submit(_Copy(block_id, handle))

    def poll(self) -> Sequence[Done]:
        """What has ended."""
        self._advance()
        ended, self._ended = self._ended, {}
        return [done for done, _ in ended.values()]

    def wait(self, operation: int, timeout_s: float) -> Done:
        """Wait for one."""
        deadline = time.monotonic() + timeout_s
        self._advance()
        while operation not in self._ended:
            if time.monotonic() > deadline:
                raise TimeoutError(f"operation {operation} has not ended in {timeout_s:g} s")
            self._tiers.wait(_WAIT_S)
            self._advance()
        return self._ended.pop(operation)[0]

    def busy_blocks(self) -> Collection[int]:
        """Blocks of copies that have not ended, and of loads that were not reported."""
        reported_next = [copy for _, copy in self._ended.values() if copy.handle is not None]
        return {copy.block for copy in [*self._copies.values(), *reported_next]}

    def drop(self, handle: int) -> None:
        """Forget a page."""
        page = self._pages.pop(handle)
        if page >= 0:
            self._tiers.forget(np.array([page]))

    def stored(self) -> Collection[int]:
        """Handles; after a kill there are none, as the file goes with its process."""
        return set(self._pages)

    def close(self) -> None:
        """Stop the mover."""
        self._files.heal()
        self._tiers.close()

    # ---- how

    def _submit(self, copy: _Copy) -> int:
        self._num_operations += 1
        self._copies[self._num_operations] = copy
        self._advance()
        return self._num_operations

    def _advance(self) -> None:
        """Begin and end what can begin and end; what has landed goes down again before anything else."""
        for paged_in in self._tiers.poll():
            self._land(paged_in.ticket, paged_in.pages, bool(paged_in.arrived[0]))
        for operation, copy in sorted(self._copies.items(), key=lambda item: not item[1].has_landed):
            if copy.handle is not None and not copy.has_landed:
                self._load(operation, copy, copy.handle)
            elif copy.handle is not None and copy.handle not in self._pages:
                self._end(operation)  # dropped
            elif self._has_room():
                self._demote(operation if copy.handle is None else copy.handle, copy.block)
                self._end(operation)

    def _has_room(self) -> bool:
        """Whether a block can go down and no page is lost for it; or, where all stay, leaves the host."""
        return (self._tiers.num_free_slots if self.is_ample else self._tiers.num_ready) > 0

    def _load(self, operation: int, copy: _Copy, handle: int) -> None:
        page = self._pages.get(handle, _LOST)
        if copy.ticket is not None or page == _LANDED or self._is_rising(handle):
            return
        if page == _LOST:
            self._end(operation, BlockLost(f"handle {handle} is gone"))
            return
        if self._short is not None:  # its place may be another one since, and this page's now
            self._files.let_be_short(self._offset(self._short))
        pages = np.array([page])
        self._tiers.pin(pages)
        copy.ticket = self._tiers.page_in(pages, np.array([copy.block]))

    def _is_rising(self, handle: int) -> bool:
        return any(copy.handle == handle and copy.ticket is not None for copy in self._copies.values())

    def _land(self, ticket: int, pages: Int64s, has_arrived: bool) -> None:
        operation, copy = next(item for item in self._copies.items() if item[1].ticket == ticket)
        handle = -1 if copy.handle is None else copy.handle
        if handle in self._pages:
            self._tiers.forget(pages, wanted=has_arrived)
            self._pages[handle] = _LANDED if has_arrived else _LOST
        copy.has_landed = has_arrived
        if not has_arrived:
            self._end(operation, BlockLost(f"the page of handle {handle} did not come"))

    def _demote(self, handle: int, block: int) -> None:
        keys = np.array([handle]) if self._tiers.needs_keys else None
        self._pages[handle] = int(self._tiers.demote(np.array([block]), keys)[0])
        dropped = self._tiers.take_dropped()
        self._tiers.forget(dropped)
        for other in self._pages.keys() & {h for h, page in self._pages.items() if page in dropped}:
            self._pages[other] = _LOST

    def _end(self, operation: int, error: BlockLost | None = None) -> None:
        self._ended[operation] = Done(operation, error), self._copies.pop(operation)

    # ---- faults

    def inject(self, fault: Fault, handle: int) -> None:
        """Let system calls fail, or spoil the file."""
        if fault == Fault.SHORT_READ:
            self._short = handle
        self._files.inject(fault, self._offset(handle))

    def heal(self) -> None:
        """Let system calls be as they were."""
        self._short = None
        self._files.heal()

    def _offset(self, handle: int) -> int:
        """Where the file has a handle's page; negative if it does not."""
        page = self._pages.get(handle, _LOST) - self.num_blocks
        place = self._tiers._table.place[page] if page >= 0 else -1  # noqa: SLF001 - nobody else has to know
        return int(place * _SLOT_BYTES)

    def kill(self) -> None:
        """End; a file without a name is gone then, however its process ends."""
        self._files.inject(Fault.KILLED_PROCESS, -1)
        self._tiers.close()


class AmpleHostAdapter(PagedKVOffloadAdapter):
    """The host keeps all pages and writes each to the file, so that no fault of the file costs one."""

    faults = PagedKVOffloadAdapter.faults | Fault.DISK_FULL | Fault.PERMISSION_DENIED
    is_ample = True


class HostOnlyAdapter(AmpleHostAdapter):
    """Without a file there is nothing that could fail."""

    faults = Fault.KILLED_PROCESS
    has_file = False

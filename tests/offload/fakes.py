"""Movers that move identities instead of bytes: at once, or when a test says so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pagedkv import BlockManager, CacheConfig, OffloadConfig
from pagedkv.block_ids import Int64s
from pagedkv.clock import VirtualClock
from pagedkv.errors import CorruptPage, OffloadError
from pagedkv.events import EventStream, Route
from pagedkv.offload.mover import Moved
from pagedkv.offload.tiers import PageTiers

__all__ = ["FakeMover", "SlowMover", "cache_over", "tiers_over"]


@dataclass
class Copy:
    """A copy under way."""

    operation: int
    route: Route
    sources: list[int]
    targets: list[int]


class FakeMover:
    """Copies are done when they are asked for, and told with the next `poll`.

    `device`, `host` and `file` say what each block, slot and place holds. It refuses copies that would touch
    the same memory at the same time in a way that a real mover could not bear.
    """

    page_bytes = 1000

    def __init__(self, num_slots: int, num_places: int = 0) -> None:
        self.num_slots, self.num_places = num_slots, num_places
        self.bandwidth: dict[Route, int] = {"page_out": 10**9, "page_in": 10**9}
        if num_places:
            self.bandwidth |= {"spill": 10**8, "fetch": 10**8}
        self.device: dict[int, object] = {}
        self.host: dict[int, object] = {}
        self.file: dict[int, object] = {}
        self.under_way: list[Copy] = []
        self.done: list[Moved] = []
        self.num_operations = 0
        self.num_stored = 0
        self.refuses_stores = False
        self.is_closed = False

    def tell(self, events: EventStream) -> None:
        """No step waits."""

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots."""
        assert len(blocks) == len(slots) == len(set(slots.tolist()))
        self._require_unused("host", slots.tolist(), reads=False)
        if self.refuses_stores:
            for slot in slots.tolist():
                self.host[slot] = "garbage"
            raise OffloadError("no")
        self.num_stored += len(blocks)
        for block, slot in zip(blocks.tolist(), slots.tolist(), strict=True):
            assert 0 <= slot < self.num_slots
            self.host[slot] = self.device.get(block)

    def load(self, slots: Int64s, blocks: Int64s) -> int:
        """Start to copy slots to blocks."""
        assert len(slots) == len(blocks)
        self._require_unused("device", blocks.tolist(), reads=False)
        self._require_unused("host", slots.tolist(), reads=True)
        return self._begin("page_in", slots.tolist(), blocks.tolist())

    def spill(self, slot: int, place: int) -> int:
        """Start to write a slot to a place."""
        assert 0 <= place < self.num_places
        self._require_unused("host", [slot], reads=True)
        self._require_unused("file", [place], reads=False)
        return self._begin("spill", [slot], [place])

    def fetch(self, place: int, slot: int) -> int:
        """Start to read a place into a slot."""
        self._require_unused("file", [place], reads=True)
        self._require_unused("host", [slot], reads=False)
        return self._begin("fetch", [place], [slot])

    def poll(self) -> Sequence[Moved]:
        """Copies that have ended."""
        done, self.done = self.done, []
        return done

    def wait(self, timeout_s: float) -> None:
        """Nothing ever ends by itself."""

    def next_ns(self) -> int | None:
        """It is not known."""
        return None

    def close(self) -> None:
        """Stop."""
        self.is_closed = True

    def end(self, copy: Copy, error: OffloadError | None = None) -> None:
        """Let a copy end; one that fails leaves garbage."""
        self.under_way.remove(copy)
        source, target = {
            "page_in": (self.host, self.device),
            "spill": (self.host, self.file),
            "fetch": (self.file, self.host),
        }[copy.route]
        for a, b in zip(copy.sources, copy.targets, strict=True):
            target[b] = "garbage" if error is not None else source.get(a)
        self.done.append(Moved(copy.operation, error))

    def _begin(self, route: Route, sources: list[int], targets: list[int]) -> int:
        self.num_operations += 1
        copy = Copy(self.num_operations, route, sources, targets)
        self.under_way.append(copy)
        self.begun(copy)
        return copy.operation

    def begun(self, copy: Copy) -> None:
        """A copy has begun: it ends at once."""
        self.end(copy)

    def _require_unused(self, memory: str, numbers: Iterable[int], *, reads: bool) -> None:
        """No copy under way writes these, nor reads them if they are to be written."""
        for copy in self.under_way:
            read, written = {
                "page_in": ("host", "device"),
                "spill": ("host", "file"),
                "fetch": ("file", "host"),
            }[copy.route]
            busy = set(copy.targets if written == memory else ())
            if not reads and read == memory:
                busy |= set(copy.sources)
            assert not busy & set(numbers), f"{memory} {busy & set(numbers)} in use by {copy}"


class SlowMover(FakeMover):
    """Copies end when a test calls `end`."""

    def begun(self, copy: Copy) -> None:
        """It goes on."""

    def end_all(self, error: OffloadError | None = None) -> None:
        """Let everything end that is under way."""
        for copy in list(self.under_way):
            self.end(copy, error)

    def corrupt(self, copy: Copy) -> None:
        """Let a copy find other bytes than were stored."""
        self.end(copy, CorruptPage("flipped"))


def tiers_over(
    mover: FakeMover,
    *,
    first_page: int = 100,
    num_staging: int | None = 0,
    num_reserved: int | None = None,
    **config: object,
) -> PageTiers:
    """Tiers by themselves."""
    return PageTiers(
        mover,
        OffloadConfig(**config),
        first_page=first_page,
        clock=VirtualClock(),
        events=EventStream(),
        num_staging=num_staging,
        num_reserved=num_reserved,
    )


def cache_over(
    mover: FakeMover,
    num_blocks: int = 8,
    block_size: int = 4,
    *,
    num_staging: int | None = None,
    num_reserved: int | None = None,
    clock: VirtualClock | None = None,
    **config: object,
) -> BlockManager:
    """A cache with tiers below."""
    cache = {key: config.pop(key) for key in ("prefix_keys", "fork_mode", "prefix_caching") if key in config}
    tiers = partial(
        PageTiers,
        mover,
        OffloadConfig(**config),
        clock=clock or VirtualClock(),
        num_staging=num_staging,
        num_reserved=num_reserved,
    )
    return BlockManager(CacheConfig(num_blocks=num_blocks, block_size=block_size, **cache), tiers=tiers)

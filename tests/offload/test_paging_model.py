"""A cache with tiers below it against shadow memory, over random programs that shrink.

What every slot of the device, the host and the file holds is the identity of its KV. Copies take as long as
the program says, and fail when it says.
"""

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagedkv.block_manager import PageIn
from pagedkv.errors import CorruptPage, InvalidRequest, OffloadError, OutOfBlocks
from pagedkv.events import PageInEnded
from tests.block_manager.shadow import ShadowedCache
from tests.block_manager.test_model import BLOCK_SIZE, TOKENS, lengths
from tests.examples import examples
from tests.offload.fakes import Copy, SlowMover, cache_over

if TYPE_CHECKING:
    from pagedkv.events import Event

NAMESPACES = st.sampled_from(["", "", "", "", "", "other"])
LONGEST = 4 * BLOCK_SIZE + 1
FAMILIES = [[0] * BLOCK_SIZE + [1] * (LONGEST - BLOCK_SIZE), *([i] * LONGEST for i in range(6))]


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """Prompts that meet: most are the whole of a family, so that the tiers see them again."""
    family = draw(st.sampled_from([*FAMILIES, *FAMILIES[:2], *FAMILIES[:2]]))
    return family[: draw(st.sampled_from([LONGEST, LONGEST, LONGEST, lengths(draw, LONGEST)]))]


class DeviceMemory(MutableMapping[int, object]):
    """The shadow memory of slots, block by block."""

    def __init__(self, slots: dict[int, object]) -> None:
        self.slots = slots

    def __getitem__(self, block: int) -> object:
        return [self.slots.get(block * BLOCK_SIZE + i) for i in range(BLOCK_SIZE)]

    def __setitem__(self, block: int, content: object) -> None:
        for i in range(BLOCK_SIZE):
            self.slots[block * BLOCK_SIZE + i] = content[i] if isinstance(content, list) else content

    def __delitem__(self, block: int) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


class PagingMover(SlowMover):
    """What is being written holds garbage until that has ended; some routes are quick."""

    quick: frozenset[str] = frozenset()

    def begun(self, copy: Copy) -> None:
        if copy.route in self.quick:
            self.end(copy)
            return
        target = {"page_in": self.device, "spill": self.file, "fetch": self.host}[copy.route]
        for number in copy.targets:
            target[number] = "half a page"


class PagingMachine(RuleBasedStateMachine):
    """Every operation on a tiny pool, over a tiny host and a tiny file."""

    num_places = 0

    def __init__(self) -> None:
        super().__init__()
        self.next_id = 0
        self.number_of: dict[object, int] = {}
        self.content_of: dict[int, object] = {}
        self.ended: set[PageIn] = set()
        self.reset_since: set[PageIn] = set()
        self.last_step = 0  # in flight
        self.all_page_ins: list[PageIn] = []
        self.page_ins: list[tuple[PageIn, list[int], str]] = []

    @initialize(
        num_blocks=st.integers(4, 8),
        num_slots=st.integers(0, 7),
        num_staging=st.integers(0, 2),
        num_reserved=st.integers(0, 4),
        policy=st.sampled_from(["lru", "arc", "fifo"]),
        fork_mode=st.sampled_from(["lazy", "eager"]),
        depth=st.integers(1, 3),
        quick=st.sampled_from([[], ["spill"], ["spill", "fetch"], ["spill", "fetch", "page_in"]]),
    )
    def begin(
        self,
        num_blocks: int,
        num_slots: int,
        num_staging: int,
        num_reserved: int,
        policy: str,
        fork_mode: str,
        depth: int,
        quick: list[str],
    ) -> None:
        self.mover = PagingMover(num_slots, self.num_places)
        self.mover.quick = frozenset(quick)
        cache = cache_over(
            self.mover,
            num_blocks,
            BLOCK_SIZE,
            num_staging=min(num_staging, num_slots),
            num_reserved=num_reserved,
            policy=policy,
            queue_depth=depth,
            fork_mode=fork_mode,
        )
        self.cache = ShadowedCache(cache)
        self.told: list[Event] = []
        cache.events.attach(self.told.append)
        self.mover.device = DeviceMemory(self.cache.shadow)  # type: ignore[assignment]

    def picture(self) -> object:
        """All of the observable state."""
        cache = self.cache.cache
        tables = [cache.block_table(i).tolist() for i in cache.seq_ids()]
        tiers = cache.tiers
        return (
            tables,
            cache.pool.num_free,
            cache.pool.ref_counts().tolist(),
            cache.num_cached_blocks,
            (tiers.num_host_pages, tiers.num_file_pages, tiers.num_rising),
        )

    def attempt(self, operation: object, *args: object) -> bool:
        """Run an operation that may lack room; if it does, nothing has changed."""
        before = self.picture()
        try:
            operation(*args)
        except OutOfBlocks as error:
            assert error.needed > error.free + error.evictable
            assert self.picture() == before
            return False
        return True

    def live(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.cache.tokens)))

    # ---- what a cache does

    @rule(prompt=prompts(), namespace=NAMESPACES)
    def admit(self, prompt: list[int], namespace: str) -> None:
        self.next_id += 1
        self.attempt(self.cache.admit, self.next_id, prompt, namespace)

    @rule(prompts=st.lists(prompts(), min_size=1, max_size=6))
    def visit(self, prompts: list[list[int]]) -> None:
        """Short-lived sequences: what evicts."""
        for prompt in prompts:
            self.next_id += 1
            if self.attempt(self.cache.admit, self.next_id, prompt):
                self.cache.release(self.next_id)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data(), tokens=st.lists(TOKENS, min_size=1, max_size=2 * BLOCK_SIZE))
    def append(self, data: st.DataObject, tokens: list[int]) -> None:
        self.attempt(self.cache.append, self.live(data), tokens)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(st.sampled_from(sorted(self.cache.tokens)), min_size=1, unique=True))
        tokens = data.draw(st.lists(TOKENS, min_size=len(batch), max_size=len(batch)))
        self.attempt(self.cache.append_batch, batch, tokens)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        self.next_id += 1
        self.attempt(self.cache.fork, self.live(data), self.next_id)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        seq_id = self.live(data)
        self.cache.truncate(seq_id, data.draw(st.integers(0, len(self.cache.tokens[seq_id]))))

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.cache.release(self.live(data))

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def begin_step(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(st.sampled_from(sorted(self.cache.tokens)), min_size=1, unique=True))
        self.last_step = self.cache.cache.begin_step(batch)

    @precondition(lambda self: self.last_step)
    @rule()
    def retire_steps(self) -> None:
        self.cache.cache.retire_step(self.last_step)
        self.last_step = 0

    @precondition(lambda self: self.next_id > 12)
    @rule()
    def reset(self) -> None:
        cache = self.cache.cache
        cache.reset_prefix_cache()
        self.reset_since.update(page_in for page_in, _, _ in self.page_ins)
        assert cache.num_cached_blocks == cache.tiers.num_kept == 0

    # ---- what is new below the device

    @rule(prompt=prompts(), namespace=NAMESPACES, max_pages=st.sampled_from([None, None, 1, 2]))
    def page_in(self, prompt: list[int], namespace: str, max_pages: int | None) -> None:
        cache = self.cache.cache
        prefix = cache.paged_prefix(prompt, namespace, max_pages=max_pages)
        assert prefix.num_cached_tokens <= prefix.num_tokens < len(prompt)
        assert prefix.num_cached_tokens == min(prefix.num_tokens, cache.lookup(prompt, namespace))
        if not prefix.num_paged:
            with pytest.raises(InvalidRequest):
                cache.begin_page_in(prefix)
            return
        before = self.picture()
        try:
            page_in = cache.begin_page_in(prefix)
        except OutOfBlocks:
            assert prefix.num_blocks_needed > cache.pool.num_free
            assert self.picture() == before
            return
        assert page_in.num_pages == page_in.num_left == prefix.num_paged
        self.page_ins.append((page_in, prompt, namespace))
        self.all_page_ins.append(page_in)

    @precondition(lambda self: self.mover.under_way)
    @rule(data=st.data(), error=st.sampled_from([None, None, None, OffloadError("EIO"), CorruptPage("flip")]))
    def copy_ends(self, data: st.DataObject, error: OffloadError | None) -> None:
        self.mover.end(data.draw(st.sampled_from(self.mover.under_way)), error)

    @rule(refuses=st.sampled_from([False, False, True]))
    def stores(self, refuses: bool) -> None:
        self.mover.refuses_stores = refuses

    @rule()
    def poll(self) -> None:
        self.check_ended(self.cache.cache.poll_page_ins())

    def check_ended(self, ended: list[PageIn]) -> None:
        """What has come is cached, as long as it is held."""
        waited_for = [page_in for page_in, _, _ in self.page_ins]
        for page_in in ended:
            assert page_in.has_ended
            assert page_in in waited_for
            assert page_in not in self.ended
            self.ended.add(page_in)

    @precondition(lambda self: self.page_ins)
    @rule(data=st.data(), admits=st.booleans())
    def let_go(self, data: st.DataObject, admits: bool) -> None:
        """Admit what has been waited for, if it has come; or give up."""
        page_in, prompt, namespace = data.draw(st.sampled_from(self.page_ins))
        cache = self.cache.cache
        if page_in in self.ended and page_in not in self.reset_since and not page_in.num_failed:
            assert cache.lookup(prompt, namespace) >= page_in.num_tokens
        if admits:
            self.next_id += 1
            self.attempt(self.cache.admit, self.next_id, prompt, namespace)
        cache.end_page_in(page_in)
        cache.end_page_in(page_in)
        self.page_ins = [one for one in self.page_ins if one[0] is not page_in]

    @rule()
    def everything_comes(self) -> None:
        """If nothing fails from now on, what is waited for comes."""
        for _ in range(50):
            self.check_ended(self.cache.cache.poll_page_ins())
            if not self.mover.under_way:
                break
            self.mover.end_all()
        assert all(page_in.has_ended for page_in, _, _ in self.page_ins)
        assert self.cache.cache.tiers.num_rising == 0
        asked = sum(page_in.num_asked for page_in in self.all_page_ins)
        assert asked == sum(event.num_pages for event in self.told if isinstance(event, PageInEnded))

    # ---- what holds always

    @invariant()
    def sound(self) -> None:
        self.cache.check()

    @invariant()
    def numbers_stand_for_content(self) -> None:
        """What a page's content is numbered depends on its prefix alone, and no two prefixes share one."""
        cache = self.cache.cache
        if not cache.tiers.needs_keys:
            return
        index, first = cache._contents.index, cache.config.num_blocks
        for page in index.blocks()[index.blocks() >= first].tolist():
            path = [page]
            while path[-1] >= 0:
                path.append(index.before(path[-1]))
            content = (index.namespace(page), cache._contents.tokens[path[:-1]].tobytes())
            number = cache.tiers._table.key[page - first]
            assert self.number_of.setdefault(content, number) == number
            assert self.content_of.setdefault(number, content) == content

    def teardown(self) -> None:
        """After everything has ended, every block and slot comes home."""
        cache = self.cache.cache
        self.everything_comes()
        for page_in, _, _ in self.page_ins:
            cache.end_page_in(page_in)
        for seq_id in list(self.cache.tokens):
            self.cache.release(seq_id)
        if self.last_step:
            self.retire_steps()
        assert cache.pool.num_free == cache.pool.num_blocks
        self.cache.check()
        self.mover.refuses_stores = False
        self.cache.admit(-1, [7] * (cache.pool.num_blocks * BLOCK_SIZE))
        self.cache.check()
        self.everything_comes()
        cache.reset_prefix_cache()
        self.everything_comes()
        table = cache.tiers._table
        assert len(table.spare_slots) == table.num_slots
        assert len(table.spare_places) == table.num_places
        assert len(table._spare_pages) == table.num_pages


class FileMachine(PagingMachine):
    """With a file."""

    num_places = 8


@pytest.mark.parametrize("machine", [PagingMachine, FileMachine], ids=lambda m: m.__name__)
def test_random_programs(machine: type[RuleBasedStateMachine]) -> None:
    """Whatever comes, fails or gives way, each sequence reads its own KV and nothing is lost or leaked."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
    )

"""What is known of a cache under test, and how its answers are looked at."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, NoReturn, ParamSpec, TypeVar, cast

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.asking import Asker
from pytest_pagedkv.conformance.cache.behaviour import check_refusals_left_nothing
from pytest_pagedkv.conformance.cache.books import check_free
from pytest_pagedkv.conformance.cache.calls import Call, Program, replay_test
from pytest_pagedkv.conformance.cache.diagnosis import (
    LostPrefix,
    blocks_taken,
    twice_free_after,
    without_refusals,
)
from pytest_pagedkv.conformance.cache.invariants import INVARIANTS
from pytest_pagedkv.conformance.cache.ledger import Ledger
from pytest_pagedkv.conformance.cache.making import make_adapter
from pytest_pagedkv.conformance.cache.picture import picture
from pytest_pagedkv.conformance.cache.released import JustReleased
from pytest_pagedkv.conformance.cache.shadow import Live, Shadow, chain, num_common
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["Verifier", "explained"]

_MOST_REPEATED = 10_000  # calls of a program that is made again to find a cause
_MOST_STEPPED = 300  # and of one that is made again up to each of its calls

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound="Verifier")


def explained(
    method: "Callable[Concatenate[V, P], T]",
) -> "Callable[Concatenate[V, P], T]":
    """A violation leaves with everything that is known about it."""

    @wraps(method)
    def explaining(self: "V", *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except InvariantViolation as violation:
            self._explain(violation)
            raise

    return cast("Callable[Concatenate[V, P], T]", explaining)


class Verifier:
    """The state of a checked cache, and its checks.

    Args:
        adapter: the cache, unused so far.
        full_check_every: after how many calls to read all tables and reference counts.
        history: how many calls to keep; None keeps all.
        watch: the time limit for a call; None sets none.

    Attributes:
        adapter: the cache.
        live: the sequences as they have to be, by id. Read only.
        seeks_causes: a violation is named by its cause, for which calls are made again.
    """

    def __init__(
        self,
        adapter: KVCacheAdapter,
        *,
        full_check_every: int = 1,
        history: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        if full_check_every < 1:
            raise ValueError(f"full_check_every is {full_check_every}; it must be at least 1")
        self.adapter = adapter
        self.live: dict[int, Live] = {}
        self._full_check_every = full_check_every
        self._asker = Asker(adapter, watch or Watch(float("inf")), history)
        shadow = Shadow(adapter.block_size)
        self._ledger = Ledger(adapter.block_size, adapter.max_overhead_blocks, shadow, self.live, {})
        self._num_free = adapter.usable_blocks
        self._released: JustReleased | None = None
        self.seeks_causes = True

    @property
    def calls(self) -> Sequence[Call]:
        """What was called, oldest first."""
        return self._asker.calls

    def _check_traces(self) -> None:
        """Compare with a cache that never saw the calls which were refused."""
        if self._keeps_all:
            check_refusals_left_nothing(self._asker.calls, self._fresh)

    @property
    def _keeps_all(self) -> bool:
        """All calls since the cache was new are known, so that they can be made again."""
        return len(self._asker.calls) >= self._asker.num_calls

    @property
    def _is_short(self) -> bool:
        """The program is short enough to look for causes by making it again."""
        return self.seeks_causes and self._keeps_all and len(self._asker.calls) <= _MOST_REPEATED

    def _fresh(self) -> KVCacheAdapter:
        """A new cache of the same class."""
        return make_adapter(type(self.adapter), self.adapter.num_blocks, self.adapter.block_size)

    def _live(self, call: Call, seq_id: int) -> Live:
        """The sequence that a call is about; a call about an unknown one is misuse."""
        sequence = self.live.get(seq_id)
        if sequence is None:
            self._misuse(call, KeyError)
        if sequence.is_swapped:
            raise ValueError(
                f"sequence {seq_id} is swapped out; the contract has only swap_in and release for it"
            )
        return sequence

    def _misuse(self, call: Call, *errors: type[Exception]) -> NoReturn:
        """A call that must be refused: see that it is, and that nothing has changed."""
        try:
            self._asker.call(call, errors)
        except errors:
            self._settle("documented-errors", full=True)
            raise
        names = " or ".join(error.__name__ for error in errors)
        raise InvariantViolation(
            "documented-errors", f"{call} is misuse and was accepted; it must raise {names}"
        )

    def _with_room(self, call: Call, needed: int, new_id: int | None = None) -> Placement:
        """Make a call that may lack room; if it is refused, see that this is right and nothing changed."""
        try:
            return self._asker.placement(call, (OutOfBlocks,))
        except OutOfBlocks:
            self._check_refusal(call, needed, new_id)
            raise

    def _check_refusal(self, call: Call, needed: int, new_id: int | None) -> None:
        free = self._num_free
        lost = [seq_id for seq_id in self.live if not self._asker.knows(seq_id)]
        if lost:
            raise InvariantViolation("atomic-failure", f"{call} was refused, and sequence {lost[0]} is gone")
        self._settle("atomic-failure", full=True)
        if new_id is not None and self._asker.knows(new_id):
            raise InvariantViolation(
                "atomic-failure", f"{call} was refused, but sequence {new_id} has a table"
            )
        if call.name == "admit" and needed > free:
            needed -= self._num_shared(call, free, needed)
        if needed <= free:
            idle = not self._ledger.holders
            raise InvariantViolation(
                "progress" if idle else "no-spurious-oom",
                f"{call} raised OutOfBlocks; it needs at most {needed} blocks, and {free} are obtainable"
                + (" in an idle pool" if idle else ""),
            )

    def _num_shared(self, call: Call, free: int, needed: int) -> int:
        """Blocks of a refused prompt that live sequences hold and that a shorter request for it does hit."""
        size = self.adapter.block_size
        seq_id, tokens, *rest = call.arguments
        identities = chain(hash(("namespace", *(rest or [""]))), tokens)
        live = (sequence.identities for sequence in self.live.values() if sequence.is_findable)
        common = max((num_common(identities[:-1], other) for other in live), default=0) // size
        if not (Feature.PREFIX_CACHE in self.adapter.features and needed - common <= free and self._is_short):
            return 0
        shorter = Call("admit", (seq_id, tokens[: common * size + 1], *rest))
        return common + 1 - blocks_taken([*self._asker.calls[:-1], shorter], self._fresh())

    def _needed_to_append(self, sequence: Live, num_tokens: int) -> int:
        """The most blocks that an append may take: new ones, and a copy of a last block not its own."""
        ledger, length = self._ledger, len(sequence.identities)
        needed = ledger.blocks_for(length + num_tokens) - ledger.blocks_for(length)
        if length % self.adapter.block_size:
            tail = sequence.table[ledger.blocks_for(length) - 1]
            needed += sequence.is_cut or len(ledger.holders[tail]) > 1
        return needed + self.adapter.max_overhead_blocks

    def _check_hit(self, identities: Sequence[int], cached: int) -> None:
        """Check the number of cached tokens, before looking at what they are."""
        if cached and Feature.PREFIX_CACHE not in self.adapter.features:
            raise InvariantViolation(
                "well-formed", f"{cached} tokens are cached, without Feature.PREFIX_CACHE"
            )
        if not 0 <= cached < len(identities):
            raise InvariantViolation(
                "hit-soundness",
                f"{cached} of {len(identities)} tokens are cached; it must be 0 to {len(identities) - 1}, "
                "so that one is left to compute",
            )
        released = self._released
        if released is not None:
            released.consumed = self._ledger.consumed - released.since
            least = released.least_hit(identities, self.adapter.block_size)
            if cached < least:
                raise InvariantViolation(self._missed_by(released, least), released.missed(cached, least))

    def _missed_by(self, released: JustReleased, least: int) -> str:
        """What is broken if the last call should have hit more: was the prefix evicted, or lost otherwise?"""
        if not released.consumed or not self._is_short:
            return released.invariant
        lost = LostPrefix(self._asker.calls, released.num_calls, least, self._fresh)
        return "eviction-order" if lost.is_evicted() else "hit-completeness"

    def _fill(self, seq_id: int, placement: Placement) -> None:
        """Note a sequence that has just got its blocks, and write what is not cached."""
        ledger, cached = self._ledger, placement.num_cached_tokens
        ledger.take_table(seq_id, self._asker.table(seq_id), shareable=ledger.blocks_for(cached))
        dirty = ledger.copy(placement)
        ledger.check_cached(seq_id, cached)
        ledger.write(seq_id, cached)
        ledger.look(dirty, "shadow")

    def _remember(self, seq_id: int, sequence: Live, supply: int) -> None:
        """Note the prefix that a release leaves behind."""
        self._released = None
        if Feature.PREFIX_CACHE in self.adapter.features and sequence.is_findable:
            stop = None if self.adapter.caches_output else sequence.num_prompt_tokens
            since = self._ledger.consumed
            self._released = JustReleased(
                seq_id, sequence.identities[:stop], supply, since, len(self._asker.calls)
            )

    def _settle(self, invariant: str = "", *, full: bool = False) -> None:
        """Check tables, reference counts and free blocks; name the invariant if it is not their own."""
        ledger, asker = self._ledger, self._asker
        if full or asker.num_calls % self._full_check_every == 0:
            tables = {seq_id: asker.table(seq_id) for seq_id in self.live}
            ledger.check_tables(tables, invariant or "shadow")
            if Feature.REF_COUNTS in self.adapter.features:
                ledger.check_ref_counts(asker.ref_counts(), invariant or "ref-counts")
        self._num_free = asker.num_free()
        if asker.calls:
            asker.calls[-1].num_free = self._num_free
        check_free(self.adapter, self._num_free, ledger.holders, invariant)

    def _blame_refusals(self, violation: InvariantViolation) -> None:
        """If all is well without the calls that were refused, it is them who left something behind."""
        calls = self._asker.calls
        refused = [call for call in calls[:-1] if call.outcome]
        if violation.invariant == "atomic-failure" or not refused or not self._is_short:
            return
        if not self._breaks(without_refusals(calls)) and self._breaks(calls):
            lacked_room = any(call.outcome == "OutOfBlocks" for call in refused)
            violation.invariant = "atomic-failure" if lacked_room else "documented-errors"
            violation.detail += (
                f". Without the refused calls before it, such as {refused[-1]}, this does not happen"
            )

    def _blame_free_list(self, violation: InvariantViolation) -> None:
        """If a block was in the free list twice before, that is where it began."""
        calls = self._asker.calls
        if violation.invariant == "unique-free" or len(calls) > _MOST_STEPPED or not self._keeps_all:
            return
        call = twice_free_after(calls, self._fresh)
        if call is not None:
            violation.invariant = "unique-free"
            violation.detail += f". After {call} the pool, asked for all it has, hands out a block twice"

    def _breaks(self, calls: Sequence[Call]) -> bool:
        """Whether these calls on a new cache break anything."""
        again = type(self)(self._fresh())
        again.seeks_causes = False
        try:
            for call in calls:
                try:
                    getattr(again, call.name)(*call.arguments)
                except (OutOfBlocks, KeyError, ValueError):
                    continue
        except InvariantViolation:
            return True
        return False

    def _explain(self, violation: InvariantViolation) -> None:
        """Add to a violation what is known here; once."""
        if violation.adapter:
            return
        adapter = self.adapter
        calls = self._asker.calls
        if self.seeks_causes and not isinstance(violation, Hung):  # a call that may hang is not made again
            self._blame_free_list(violation)
            self._blame_refusals(violation)
        violation.adapter = f"{_path(adapter)}({adapter.num_blocks}, {adapter.block_size})"
        violation.call = str(calls[-1]) if calls else ""
        violation.program = Program.of(adapter, calls)
        violation.sections = (
            ("must hold", INVARIANTS[violation.invariant]),
            ("pool", picture(self._ledger, adapter)),
            ("replay", replay_test(violation.invariant, adapter, calls)),
        )


def _path(adapter: KVCacheAdapter) -> str:
    return f"{type(adapter).__module__}:{type(adapter).__qualname__}"

"""A cache whose every call is verified against shadow memory."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from operator import index
from typing import Concatenate, NoReturn, ParamSpec, TypeVar, cast

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.asking import Asker
from pytest_pagedkv.conformance.cache.behaviour import check_refusals_left_nothing
from pytest_pagedkv.conformance.cache.books import check_free
from pytest_pagedkv.conformance.cache.calls import Call, Program, replay_test
from pytest_pagedkv.conformance.cache.diagnosis import cached_by_last, without_refusals
from pytest_pagedkv.conformance.cache.invariants import INVARIANTS
from pytest_pagedkv.conformance.cache.ledger import Ledger
from pytest_pagedkv.conformance.cache.making import make_adapter
from pytest_pagedkv.conformance.cache.picture import picture
from pytest_pagedkv.conformance.cache.released import JustReleased
from pytest_pagedkv.conformance.cache.shadow import Live, Shadow, chain
from pytest_pagedkv.conformance.cache.watch import Watch
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation

__all__ = ["CheckedCache"]

P = ParamSpec("P")
T = TypeVar("T")


def _explained(
    method: "Callable[Concatenate[CheckedCache, P], T]",
) -> "Callable[Concatenate[CheckedCache, P], T]":
    """A violation leaves with everything that is known about it."""

    @wraps(method)
    def explaining(self: "CheckedCache", *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except InvariantViolation as violation:
            self._explain(violation)
            raise

    return cast("Callable[Concatenate[CheckedCache, P], T]", explaining)


class CheckedCache:
    """Wraps an adapter; has its methods, and raises `InvariantViolation` from the first call that is wrong.

    It keeps shadow memory: for every slot, the identity of the KV that a real kernel would have written
    there. After each call it runs the reported copies, compares what is said to be cached, writes what is
    new, and looks whether every sequence still finds its own KV, whether blocks and references add up, and
    whether a refusal left everything as it was. Errors that the contract documents pass through. After a
    violation the cache is of no further use.

    For a soak test of a large pool set `full_check_every`: what a call costs then is in proportion to the
    tokens and blocks that it touches, and tables and reference counts as a whole are read every so many
    calls.

    Args:
        adapter: the cache, unused so far.
        full_check_every: after how many calls to read all tables and reference counts.
        history: how many calls to keep for the replay test; None keeps all.
        watch: the time limit for a call; None sets none.

    Attributes:
        adapter: the cache.
        live: the sequences as they have to be, by id. Read only.
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

    @property
    def calls(self) -> Sequence[Call]:
        """What was called, oldest first."""
        return self._asker.calls

    # ---- the adapter's methods

    @_explained
    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Admit, and check that what is called cached is this sequence's own KV."""
        tokens = _as_tokens(token_ids)
        call = Call("admit", (seq_id, tokens, namespace) if namespace else (seq_id, tokens))
        if seq_id in self.live:
            self._misuse(call, ValueError)
        placement = self._with_room(call, self._ledger.blocks_for(len(tokens)), new_id=seq_id)
        identities = chain(hash(("namespace", namespace)), tokens)
        cached = placement.num_cached_tokens
        self._check_hit(identities, cached)
        self.live[seq_id] = Live(namespace, identities, num_prompt_tokens=len(tokens))
        self._fill(seq_id, placement)
        self._settle()
        return placement

    @_explained
    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Append, and check that a shared block is copied before it is written."""
        tokens = _as_tokens(token_ids)
        call = Call("append", (seq_id, tokens))
        sequence = self._live(call, seq_id)
        placement = self._with_room(call, self._needed_to_append(sequence, len(tokens)))
        start, before = len(sequence.identities), sequence.table
        if sequence.is_cut and self._released is not None:
            kept, offset = divmod(start, self.adapter.block_size)
            self._released.overwritten(self._ledger.shadow.slots(before[kept])[offset:])
        sequence.identities += chain(sequence.identities[-1], tokens)
        sequence.is_cut = False
        ledger = self._ledger
        ledger.take_table(seq_id, self._asker.table(seq_id), shareable=0)
        dirty = ledger.copy(placement)
        ledger.write(seq_id, start)
        ledger.look(dirty, "shadow")
        ledger.look_at(seq_id, _changed(before, sequence.table), "shadow")
        self._settle()
        return placement

    @_explained
    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Fork, and check that the child finds what the parent wrote."""
        call = Call("fork", (parent_id, child_id))
        if parent_id not in self.live and child_id in self.live:
            self._misuse(call, KeyError, ValueError)
        parent = self._live(call, parent_id)
        if child_id in self.live:
            self._misuse(call, ValueError)
        is_partial = len(parent.identities) % self.adapter.block_size != 0
        placement = self._with_room(call, is_partial + self.adapter.max_overhead_blocks, new_id=child_id)
        child = self.live[child_id] = parent.forked()
        ledger = self._ledger
        ledger.take_table(child_id, self._asker.table(child_id), shareable=len(child.identities))
        ledger.look(ledger.copy(placement), "shadow")
        ledger.look_at(child_id, range(len(child.table)), "shadow")
        self._settle()
        return placement

    @_explained
    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        """Truncate, and check that what is left stays."""
        call = Call("truncate", (seq_id, num_tokens))
        sequence = self._live(call, seq_id)
        length, before = len(sequence.identities), sequence.table
        if not 1 <= num_tokens <= length:
            raise ValueError(
                f"sequence {seq_id} has {length} tokens; the contract has truncate to 1..{length}"
            )
        placement = self._asker.placement(call)
        if num_tokens < length:
            sequence.cut(num_tokens, self.adapter.block_size)
        ledger = self._ledger
        ledger.take_table(seq_id, self._asker.table(seq_id), shareable=0)
        ledger.look(ledger.copy(placement), "shadow")
        ledger.look_at(seq_id, _changed(before, sequence.table), "shadow")
        self._settle()
        return placement

    @_explained
    def release(self, seq_id: int) -> None:
        """Release, and check that nothing of the sequence is left."""
        call = Call("release", (seq_id,))
        if seq_id not in self.live:
            self._misuse(call, KeyError)
        supply = self._num_free
        self._asker.call(call)
        self._ledger.hold(seq_id, ())
        self._remember(seq_id, self.live.pop(seq_id), supply)
        if self._asker.knows(seq_id):
            raise InvariantViolation("come-home", f"sequence {seq_id} is released, but has a table still")
        self._settle()

    @_explained
    def swap_out(self, seq_id: int) -> None:
        """Swap out, and check that the blocks are given up."""
        call = Call("swap_out", (seq_id,))
        sequence = self._live(call, seq_id)
        self._asker.call(call)
        sequence.is_swapped, sequence.is_findable = True, False
        self._ledger.take_table(seq_id, self._asker.table(seq_id), shareable=0)
        self._settle()

    @_explained
    def swap_in(self, seq_id: int) -> Placement:
        """Swap in, and check that the sequence has blocks of its own again."""
        call = Call("swap_in", (seq_id,))
        if seq_id not in self.live:
            self._misuse(call, KeyError)
        sequence = self.live[seq_id]
        if not sequence.is_swapped:
            raise ValueError(f"sequence {seq_id} is not swapped out; the contract has no swap_in for it")
        needed = self._ledger.blocks_for(len(sequence.identities))
        placement = self._with_room(call, needed + self.adapter.max_overhead_blocks)
        sequence.is_swapped = False
        self._fill(seq_id, placement)
        self._settle()
        return placement

    @_explained
    def reset_prefix_cache(self) -> None:
        """Reset; what was written before must not hit any more."""
        self._asker.call(Call("reset_prefix_cache", ()))
        self._ledger.shadow.generation += 1
        self._released = None
        for sequence in self.live.values():
            sequence.is_findable = False
        self._settle()

    @_explained
    def weaken_hash(self, num_bits: int) -> None:
        """Weaken the engine's hash; before the first admission."""
        self._asker.call(Call("weaken_hash", (num_bits,)))
        self._settle()

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The sequence's blocks."""
        return self.adapter.block_table(seq_id)

    def num_free_blocks(self) -> int:
        """Blocks that an admit could still obtain."""
        return self.adapter.num_free_blocks()

    def ref_counts(self) -> Mapping[int, int]:
        """References by block."""
        return self.adapter.ref_counts()

    # ---- the whole

    @_explained
    def check(self) -> None:
        """Check every live sequence at every position, all tables and all counts.

        Raises:
            InvariantViolation: something does not hold.
        """
        for seq_id, sequence in self.live.items():
            self._ledger.look_at(seq_id, range(len(sequence.table)), "shadow")
        self._settle(full=True)

    @_explained
    def close(self) -> None:
        """Release everything and check that it comes home: one request can then have the whole pool.

        If all calls were kept and some were refused, the others are made again on a cache of the same
        class, to see whether the refused ones left traces.

        Raises:
            InvariantViolation: something does not hold.
        """
        self.check()
        self._check_traces()
        self._asker.calls.append(Call("close", ()))
        self._asker.is_recording = False
        for seq_id in list(self.live):
            self.release(seq_id)
        self._settle("come-home", full=True)
        room = self.adapter.usable_blocks - self.adapter.max_overhead_blocks
        try:
            self.admit(0, [_WHOLE_POOL_TOKEN] * (room * self.adapter.block_size))
        except OutOfBlocks:
            raise InvariantViolation(
                "come-home", f"nothing is live, but a request for the whole pool, {room} blocks, is refused"
            ) from None
        self.release(0)

    def continued_on(self, adapter: KVCacheAdapter) -> "CheckedCache":
        """A checked cache in this state, over another cache on which the same calls were made."""
        twin = CheckedCache(adapter, full_check_every=self._full_check_every)
        twin._asker = self._asker.continued_on(adapter)
        twin._ledger = self._ledger.copied()
        twin.live = twin._ledger.live
        twin._num_free = self._num_free
        twin._released = None if self._released is None else self._released.copied()
        return twin

    # ---- how

    def _check_traces(self) -> None:
        """Compare with a cache that never saw the calls which were refused."""
        if self._keeps_all:
            check_refusals_left_nothing(self._asker.calls, self._fresh())

    @property
    def _keeps_all(self) -> bool:
        """All calls since the cache was new are known, so that they can be made again."""
        return len(self._asker.calls) >= self._asker.num_calls

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
        if needed <= free:
            idle = not self._ledger.holders
            raise InvariantViolation(
                "progress" if idle else "no-spurious-oom",
                f"{call} raised OutOfBlocks; it needs at most {needed} blocks, and {free} are obtainable"
                + (" in an idle pool" if idle else ""),
            )

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
        """What is broken if the last call should have hit more: did the prefix go, or was it never there?"""
        if released.consumed and self._keeps_all:
            calls = self._asker.calls
            if cached_by_last([*calls[: released.num_calls], calls[-1]], self._fresh()) < least:
                return "hit-completeness"
        return released.invariant

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
        is_known = violation.invariant == "atomic-failure" or isinstance(violation, Hung)
        if is_known or not refused or not self._keeps_all:
            return
        if not self._breaks(without_refusals(calls)):
            lacked_room = any(call.outcome == "OutOfBlocks" for call in refused)
            violation.invariant = "atomic-failure" if lacked_room else "documented-errors"
            violation.detail += (
                f". Without the refused calls before it, such as {refused[-1]}, this does not happen"
            )

    def _breaks(self, calls: Sequence[Call]) -> bool:
        """Whether these calls on a new cache break anything."""
        again = CheckedCache(self._fresh())
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
        self._blame_refusals(violation)
        violation.adapter = f"{_path(adapter)}({adapter.num_blocks}, {adapter.block_size})"
        violation.call = str(calls[-1]) if calls else ""
        violation.program = Program.of(adapter, calls)
        violation.sections = (
            ("must hold", INVARIANTS[violation.invariant]),
            ("pool", picture(self._ledger, adapter)),
            ("replay", replay_test(violation.invariant, adapter, calls)),
        )


_WHOLE_POOL_TOKEN = 997


def _path(adapter: KVCacheAdapter) -> str:
    return f"{type(adapter).__module__}:{type(adapter).__qualname__}"


def _as_tokens(token_ids: Sequence[int]) -> tuple[int, ...]:
    tokens = tuple(map(index, token_ids))
    if not tokens:
        raise ValueError("no token ids; the contract has at least one")
    return tokens


def _changed(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Entries that two tables have both, with different blocks."""
    return [entry for entry, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]

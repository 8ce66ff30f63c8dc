"""A cache whose every call is verified against shadow memory."""

from collections.abc import Mapping, Sequence
from operator import index

from pytest_pagedkv.adapter import KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.calls import Call
from pytest_pagedkv.conformance.cache.shadow import Live, chain
from pytest_pagedkv.conformance.cache.verifying import Verifier, explained
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["CheckedCache"]


class CheckedCache(Verifier):
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

    # ---- the adapter's methods

    @explained
    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Admit, and check that what is called cached is this sequence's own KV."""
        tokens = _as_tokens(token_ids)
        call = Call("admit", (seq_id, tokens, namespace) if namespace else (seq_id, tokens))
        if seq_id in self.live:
            self._misuse(call, ValueError)
        needed = self._ledger.blocks_for(len(tokens)) + self.adapter.max_overhead_blocks
        placement = self._with_room(call, needed, new_id=seq_id)
        identities = chain(hash(("namespace", namespace)), tokens)
        cached = placement.num_cached_tokens
        self._check_hit(identities, cached)
        self.live[seq_id] = Live(namespace, identities, num_prompt_tokens=len(tokens))
        self._fill(seq_id, placement)
        self._settle()
        return placement

    @explained
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

    @explained
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

    @explained
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

    @explained
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

    @explained
    def swap_out(self, seq_id: int) -> None:
        """Swap out, and check that the blocks are given up."""
        call = Call("swap_out", (seq_id,))
        sequence = self._live(call, seq_id)
        self._asker.call(call)
        sequence.is_swapped, sequence.is_findable = True, False
        self._ledger.take_table(seq_id, self._asker.table(seq_id), shareable=0)
        self._settle()

    @explained
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

    @explained
    def reset_prefix_cache(self) -> None:
        """Reset; what was written before must not hit any more."""
        self._asker.call(Call("reset_prefix_cache", ()))
        self._ledger.shadow.generation += 1
        self._released = None
        for sequence in self.live.values():
            sequence.is_findable = False
        self._settle()

    @explained
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

    @explained
    def check(self) -> None:
        """Check every live sequence at every position, all tables and all counts.

        Raises:
            InvariantViolation: something does not hold.
        """
        for seq_id, sequence in self.live.items():
            self._ledger.look_at(seq_id, range(len(sequence.table)), "shadow")
        self._settle(full=True)

    @explained
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
        if room < 1:
            return
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


_WHOLE_POOL_TOKEN = 997


def _as_tokens(token_ids: Sequence[int]) -> tuple[int, ...]:
    tokens = tuple(map(index, token_ids))
    if not tokens or min(tokens) < 0:
        raise ValueError("no token ids, or negative ones; the contract has at least one, from 0 on")
    return tokens


def _changed(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Entries that two tables have both, with different blocks."""
    return [entry for entry, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]

"""The sequences as they have to be, the blocks they hold, and the shadow of the pool."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.shadow import Cell, Live, Shadow
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["Ledger"]


@dataclass(slots=True)
class Ledger:
    """What the oracle knows.

    Attributes:
        block_size: tokens in a block.
        max_overhead_blocks: blocks that a sequence may have beyond those that its tokens fill.
        shadow: whose KV every slot holds.
        live: the sequences, by id.
        holders: for every block in a table: the sequences that hold it, each with the entry of its table.
        consumed: blocks that have become held, ever.
    """

    block_size: int
    max_overhead_blocks: int
    shadow: Shadow
    live: dict[int, Live]
    holders: dict[int, dict[int, int]]
    consumed: int = 0

    def copied(self) -> "Ledger":
        """The same once more, independent of this one."""
        live = {seq_id: sequence.copied() for seq_id, sequence in self.live.items()}
        holders = {block: dict(owners) for block, owners in self.holders.items()}
        return replace(self, shadow=self.shadow.copied(), live=live, holders=holders)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that so many tokens fill."""
        return -(-num_tokens // self.block_size)

    # ---- tables

    def take_table(self, seq_id: int, table: tuple[int, ...], shareable: int) -> None:
        """Note a sequence's table after a call about it.

        Args:
            seq_id: the sequence.
            table: what the cache says.
            shareable: leading entries that may be held by others already.

        Raises:
            InvariantViolation: its length is wrong, or a block was handed out that was not free.
        """
        sequence = self.live[seq_id]
        self._check_length(seq_id, sequence, table)
        old = sequence.table
        kept = _num_kept(old, table)
        held = set(old[kept:])
        handed = [(entry, block) for entry, block in enumerate(table[kept:], kept) if block not in held]
        if table[kept:] and len(set(table)) < len(table):
            self._check_twice(seq_id, table, shareable)
        self.hold(seq_id, table)
        for entry, block in handed:
            if entry >= shareable and len(self.holders[block]) > 1:
                self._check_shared(seq_id, entry, block)

    def hold(self, seq_id: int, table: tuple[int, ...]) -> None:
        """Note which blocks a sequence holds now."""
        sequence, holders = self.live[seq_id], self.holders
        kept = _num_kept(sequence.table, table)
        dropped = sequence.table[kept:]
        for block in dropped:
            holders[block].pop(seq_id, None)
            if not holders[block]:
                del holders[block]
        for entry, block in enumerate(table[kept:], kept):
            owners = holders.get(block)
            if owners is None:
                owners = holders[block] = {}
                self.consumed += block not in dropped
            owners[seq_id] = entry
        sequence.table = table

    def _check_length(self, seq_id: int, sequence: Live, table: tuple[int, ...]) -> None:
        tokens = 0 if sequence.is_swapped else len(sequence.identities)
        least = self.blocks_for(tokens)
        most = least + (self.max_overhead_blocks if tokens else 0)
        if not least <= len(table) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise InvariantViolation(
                "table-length",
                f"sequence {seq_id} has {tokens} tokens in blocks of {self.block_size}, so {wanted} blocks; "
                f"its table has {len(table)}: {list(table)}",
            )

    def _check_twice(self, seq_id: int, table: tuple[int, ...], shareable: int) -> None:
        """A block that stands in a table twice was handed out twice, or handed out though it is hit or held.

        Where both stand for cached tokens nothing was handed out: what they hold tells whether that is right.
        """
        handed = table[shareable:]
        block = next((block for block in handed if table.count(block) > 1), None)
        if block is None:
            return
        if block in table[:shareable] or block in self.live[seq_id].table:
            raise InvariantViolation(
                "no-alias",
                f"block {block} was handed to sequence {seq_id}, which holds it already: {list(table)}",
            )
        raise InvariantViolation(
            "unique-free", f"one call handed block {block} to sequence {seq_id} twice: {list(table)}"
        )

    def _check_shared(self, seq_id: int, entry: int, block: int) -> None:
        """A block that others hold may stand in a table if the right KV is in it, as after deduplication."""
        if self.shadow.mismatch(self.live[seq_id], (entry,)) is not None:
            other = next(owner for owner in self.holders[block] if owner != seq_id)
            raise InvariantViolation(
                "no-alias", f"block {block} was handed to sequence {seq_id} while sequence {other} holds it"
            )

    # ---- contents

    def copy(self, placement: Placement) -> list[int]:
        """Run the reported copies in order; gives the blocks written."""
        for source, destination in placement.copies:
            self.shadow.copy(source, destination)
        return [destination for _, destination in placement.copies]

    def write(self, seq_id: int, start: int) -> None:
        """Write a sequence's tokens from `start` on, and check that nobody else lost by it.

        Raises:
            InvariantViolation: another sequence's KV was overwritten, or its own is missing before `start`.
        """
        for block in self.shadow.write(seq_id, self.live[seq_id], start):
            for owner, entry in self.holders.get(block, {}).items():
                self.look_at(owner, (entry,), "shadow" if owner == seq_id else "no-alias")

    def look(self, blocks: Iterable[int], invariant: str) -> None:
        """Check everybody who holds one of these blocks, which have just been written."""
        for block in blocks:
            for seq_id, entry in self.holders.get(block, {}).items():
                self.look_at(seq_id, (entry,), invariant)

    def look_at(self, seq_id: int, entries: Iterable[int], invariant: str, stop: int | None = None) -> None:
        """Check that a sequence finds its own KV in these entries of its table, before `stop`."""
        sequence = self.live[seq_id]
        found = self.shadow.mismatch(sequence, entries, stop)
        if found is not None:
            position, cell = found
            block = sequence.table[position // self.block_size]
            raise InvariantViolation(
                invariant,
                f"sequence {seq_id} would read {self.whose(cell)} at its position {position} "
                f"(block {block}, slot {position % self.block_size})",
            )

    def check_cached(self, seq_id: int, num_cached_tokens: int) -> None:
        """Check that what is said to be cached is the sequence's own KV, and of this side of a reset.

        Raises:
            InvariantViolation: it is not.
        """
        sequence, shadow = self.live[seq_id], self.shadow
        self.look_at(seq_id, range(self.blocks_for(num_cached_tokens)), "hit-soundness", num_cached_tokens)
        for entry in range(self.blocks_for(num_cached_tokens)):
            cell = shadow.slots(sequence.table[entry])[0]
            if cell is not None and cell.generation != shadow.generation:
                raise InvariantViolation(
                    "reset",
                    f"sequence {seq_id} hits block {sequence.table[entry]}, which {self.whose(cell)} was "
                    "written to before reset_prefix_cache",
                )

    @staticmethod
    def whose(cell: Cell | None) -> str:
        """A slot's content in words."""
        if cell is None:
            return "a slot that was never written"
        return f"position {cell.position} of sequence {cell.seq_id}"

    # ---- books

    def check_tables(self, tables: Mapping[int, tuple[int, ...]], invariant: str) -> None:
        """Check tables that no call was about: blocks may move, what is found in them may not change."""
        for seq_id, table in tables.items():
            sequence = self.live[seq_id]
            if table != sequence.table:
                if invariant == "atomic-failure":
                    raise InvariantViolation(
                        invariant,
                        f"the table of sequence {seq_id} was {list(sequence.table)}; it is {list(table)}",
                    )
                self._check_length(seq_id, sequence, table)
                self.hold(seq_id, table)
                self.look_at(seq_id, range(len(table)), invariant)

    def check_ref_counts(self, counts: Mapping[int, int], invariant: str) -> None:
        """Check reference counts against the tables."""
        for block in counts.keys() | self.holders.keys():
            count, owners = counts.get(block, 0), self.holders.get(block, {})
            if count != len(owners):
                by = f": {', '.join(f'sequence {owner}' for owner in owners)}" if owners else ""
                raise InvariantViolation(
                    invariant,
                    f"block {block} has the reference count {count}, but {len(owners)} tables hold it{by}",
                )


def _num_kept(old: tuple[int, ...], new: tuple[int, ...]) -> int:
    """Leading entries that two tables of a sequence have in common."""
    if new[: len(old)] == old:
        return len(old)
    return next((i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), len(new))

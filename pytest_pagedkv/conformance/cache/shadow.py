"""Shadow memory: whose KV every slot of the pool holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["Cell", "Live", "Shadow", "chain", "num_common"]


class Cell(NamedTuple):
    """What a slot holds.

    Attributes:
        identity: stands for the namespace and every token up to and including this one.
        seq_id: the sequence that wrote it.
        position: where in that sequence.
        generation: how often the prefix cache had been reset then.
    """

    identity: int
    seq_id: int
    position: int
    generation: int


def chain(start: int, token_ids: Iterable[int]) -> list[int]:
    """Identities of tokens that follow a prefix with identity `start`: 64-bit, equal for equal prefixes."""
    identities = []
    for token in token_ids:
        start = hash((start, token))
        identities.append(start)
    return identities


def num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Leading identities that two sequences share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass(slots=True, eq=False)
class Live:
    """A live sequence, as it has to be.

    Attributes:
        namespace: of its prefix.
        identities: one for each token.
        table: the blocks that the cache named last.
        num_prompt_tokens: leading tokens that came by `admit`, and have not been cut since.
        is_swapped: its KV is elsewhere.
        is_cut: it was truncated inside a block, and not written since.
        is_findable: later prompts have to find its prefix: no reset and no swap came in between.
    """

    namespace: str
    identities: list[int]
    table: tuple[int, ...] = ()
    num_prompt_tokens: int = 0
    is_swapped: bool = False
    is_cut: bool = False
    is_findable: bool = True

    def copied(self) -> "Live":
        """The same once more, independent of this one."""
        return replace(self, identities=list(self.identities))

    def forked(self) -> "Live":
        """A sequence that starts as this one is; its table is not known yet."""
        return replace(self, identities=list(self.identities), table=())

    def cut(self, num_tokens: int, block_size: int) -> None:
        """Keep the first tokens."""
        del self.identities[num_tokens:]
        self.num_prompt_tokens = min(self.num_prompt_tokens, num_tokens)
        self.is_cut = num_tokens % block_size != 0


class Shadow:
    """The cells of the pool. What was never written holds nothing.

    Args:
        block_size: slots in a block.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._blocks: dict[int, list[Cell | None]] = {}
        self.generation = 0

    def copied(self) -> "Shadow":
        """The same once more, independent of this one."""
        twin = Shadow(self._block_size)
        twin._blocks = {block: list(cells) for block, cells in self._blocks.items()}
        twin.generation = self.generation
        return twin

    def slots(self, block: int) -> list[Cell | None]:
        """The cells of a block."""
        return self._blocks.get(block) or [None] * self._block_size

    def copy(self, source: int, destination: int) -> None:
        """What a copy kernel does."""
        self._blocks[destination] = list(self.slots(source))

    def write(self, seq_id: int, sequence: Live, start: int) -> list[int]:
        """What the attention layers do with tokens from `start` on; gives the blocks written."""
        size, table, identities = self._block_size, sequence.table, sequence.identities
        stop = len(identities)
        indices = range(start // size, -(-stop // size))
        for index in indices:
            cells = self._blocks.setdefault(table[index], [None] * size)
            for position in range(max(start, index * size), min(stop, (index + 1) * size)):
                cells[position % size] = Cell(identities[position], seq_id, position, self.generation)
        return [table[index] for index in indices]

    def mismatch(
        self, sequence: Live, indices: Iterable[int], stop: int | None = None
    ) -> tuple[int, Cell | None] | None:
        """The first position, in these entries of the table and before `stop`, without its own KV."""
        size, table, identities = self._block_size, sequence.table, sequence.identities
        for index in indices:
            first = index * size
            last = first + size if stop is None else min(first + size, stop)
            cells = self._blocks.get(table[index])
            for offset, identity in enumerate(identities[first:last]):
                cell = cells[offset] if cells is not None else None
                if cell is None or cell.identity != identity:
                    return first + offset, cell
        return None

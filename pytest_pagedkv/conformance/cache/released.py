"""What a prefix that was just released must still give: hits, and eviction after everything else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pytest_pagedkv.conformance.cache.shadow import Cell

__all__ = ["JustReleased"]


@dataclass(slots=True)
class JustReleased:
    """The sequence released last, seen as a cached prefix.

    Attributes:
        seq_id: its id.
        identities: of its findable tokens.
        supply: blocks that were free before it was released. A cache that evicts least recently used blocks
            first hands these out before it touches the ones that the release made idle.
        since: blocks that had become held until then.
        num_calls: calls made until then.
        consumed: blocks that became held since.
    """

    seq_id: int
    identities: list[int]
    supply: int
    since: int
    num_calls: int = 0
    consumed: int = 0

    def least_hit(self, identities: Sequence[int], block_size: int) -> int:
        """Tokens of a prompt that must be cached: the common full blocks, less an evicted tail."""
        limit = min(len(identities) - 1, len(self.identities)) // block_size
        common = 0
        while common < limit and self._is_common(identities, (common + 1) * block_size - 1):
            common += 1
        evicted = max(0, self.consumed - self.supply)
        return max(0, min(common, len(self.identities) // block_size - evicted)) * block_size

    def _is_common(self, identities: Sequence[int], position: int) -> bool:
        return identities[position] == self.identities[position]

    @property
    def invariant(self) -> str:
        """What is broken if it hits less."""
        return "eviction-order" if self.consumed else "hit-completeness"

    def copied(self) -> "JustReleased":
        """The same once more, independent of this one."""
        return replace(self, identities=list(self.identities))

    def overwritten(self, cells: Iterable[Cell | None]) -> None:
        """A live sequence has written other tokens into a block that it held: what hung on these is gone."""
        for cell in cells:
            if cell is not None and self.identities[cell.position : cell.position + 1] == [cell.identity]:
                del self.identities[cell.position :]

    def missed(self, cached: int, least: int) -> str:
        """What is broken, in words."""
        if not self.consumed:
            since = "nothing was handed out"
        else:
            since = f"{self.consumed} blocks were handed out, and {self.supply} others were free"
        return (
            f"{cached} tokens are cached; sequence {self.seq_id} had the same prefix, was the last to be "
            f"released, and since then {since}, so {least} tokens have to hit"
        )

"""Adapters that break the interface itself, each in one way."""

import time
from collections.abc import Sequence
from typing import Any

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, Placement
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["BROKEN"]


class NoSuper(ReferenceCache):
    """Does not call super().__init__."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.blocks = num_blocks, block_size


class FailsToStart(ReferenceCache):
    """Raises when it is made."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        raise RuntimeError("no device")


class NeverStarts(ReferenceCache):
    """Does not come back from its constructor."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        while True:
            time.sleep(0.01)


class NoBlockSizes(ReferenceCache):
    """Takes no block size at all."""

    block_sizes = ()


class OverheadOfNone(ReferenceCache):
    """Does not say how much overhead it has."""

    max_overhead_blocks: Any = None


class ReservesAll(ReferenceCache):
    """Says that no block is usable."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.usable_blocks = 0


class FeaturesOfAnotherType(ReferenceCache):
    """Lists features as strings."""

    features: Any = ("FORK",)


class PromisesFork(KVCacheAdapter):
    """Has no fork, but says so."""

    features = Feature.FORK

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        return Placement()

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        return Placement()

    def release(self, seq_id: int) -> None:
        pass

    def block_table(self, seq_id: int) -> Sequence[int]:
        return []

    def num_free_blocks(self) -> int:
        return self.num_blocks


class ForkNotImplemented(ReferenceCache):
    """Has a fork that raises NotImplementedError."""

    def fork(self, parent_id: int, child_id: int) -> Placement:
        raise NotImplementedError("later")


class ForeignError(ReferenceCache):
    """Lets an error of the engine through."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        raise ZeroDivisionError("engine trouble")


class Exits(ReferenceCache):
    """Ends the process."""

    def release(self, seq_id: int) -> None:
        raise SystemExit(3)


class Hangs(ReferenceCache):
    """Never comes back."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        while True:
            time.sleep(0.01)


class ShortTable(ReferenceCache):
    """Leaves the last block out of a table."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return super().block_table(seq_id)[:-1]


class NegativeTable(ReferenceCache):
    """Uses -1 for a block."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return [-1 for _ in super().block_table(seq_id)]


class WildTable(ReferenceCache):
    """Names blocks that the pool does not have."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return [block + self.num_blocks for block in super().block_table(seq_id)]


class TableOfNothing(ReferenceCache):
    """Has None for a table."""

    def block_table(self, seq_id: int) -> Any:
        super().block_table(seq_id)


class ChangesItsArgument(ReferenceCache):
    """Empties the token list that it is given."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        placement = super().admit(seq_id, list(token_ids), namespace)
        token_ids.clear()  # type: ignore[attr-defined]
        return placement


class NoPlacement(ReferenceCache):
    """Returns nothing."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Any:
        super().append(seq_id, token_ids)


class WildCopy(ReferenceCache):
    """Reports a copy from outside the pool."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        super().append(seq_id, token_ids)
        return Placement(0, [(self.num_blocks, 0)])


class CountsInFloats(ReferenceCache):
    """Has half a free block."""

    def num_free_blocks(self) -> Any:
        return 0.5


class ListOfRefCounts(ReferenceCache):
    """Gives reference counts as a list."""

    def ref_counts(self) -> Any:
        return [0] * self.num_blocks


BROKEN: dict[type[KVCacheAdapter], tuple[str, str, str]] = {
    NoSuper: ("well-formed", "NoSuper(", "super().__init__"),
    FailsToStart: ("documented-errors", "FailsToStart(", "RuntimeError: no device"),
    NeverStarts: ("well-formed", "NeverStarts(", "did not return within 0.5 s"),
    NoBlockSizes: ("well-formed", "NoBlockSizes", "block_sizes is ()"),
    OverheadOfNone: ("well-formed", "OverheadOfNone", "max_overhead_blocks is None"),
    ReservesAll: ("well-formed", "ReservesAll(", "usable_blocks is 0"),
    FeaturesOfAnotherType: ("well-formed", "FeaturesOfAnotherType", "('FORK',)"),
    PromisesFork: ("well-formed", "PromisesFork", "FORK, but there is no fork"),
    ForkNotImplemented: ("well-formed", "ForkNotImplemented(", "fork("),
    ForeignError: ("documented-errors", "append(", "ZeroDivisionError: engine trouble"),
    Exits: ("documented-errors", "release(", "SystemExit: 3"),
    Hangs: ("well-formed", "append(", "did not return within 0.5 s"),
    ShortTable: ("table-length", "admit(", "its table has 0"),
    NegativeTable: ("well-formed", "block_table(", "names block -1"),
    WildTable: ("well-formed", "block_table(", "blocks are 0 to"),
    TableOfNothing: ("well-formed", "block_table(", "None"),
    ChangesItsArgument: ("well-formed", "admit(", "changed the token list"),
    NoPlacement: ("well-formed", "append(", "must return a Placement"),
    WildCopy: ("well-formed", "append(", "reports the copy"),
    CountsInFloats: ("well-formed", "CountsInFloats(", "0.5, no int"),
    ListOfRefCounts: ("well-formed", "ListOfRefCounts(", "must return a mapping"),
}
"""Adapter -> the invariant that it breaks, what names the place, and what says what is wrong."""

"""The shape of a prefix tree at one moment: how large and deep it is, and what of it is shared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pagedkv.block_ids import Int64s

__all__ = ["MOST_NODES", "PrefixTree", "SharedPrefix"]

MOST_NODES = 1 << 16
"""Trees of more nodes have no parents in their copy, as to walk all of them takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPrefix:
    """A run of blocks that several sequences have, and no other prefix divides.

    Attributes:
        namespace: of the prefix; None where the tree has too many nodes to tell.
        num_sequences: that have its first block.
        num_blocks: that several of them have.
        depth: blocks from the start of a sequence to the end of this run; None as `namespace`.
        num_blocks_saved: blocks that there would be besides, if nothing were shared.
    """

    namespace: str | None
    num_sequences: int
    num_blocks: int
    depth: int | None
    num_blocks_saved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTree:
    """Which block stands where in the tree. Nodes are runs of blocks that no other prefix divides.

    Attributes:
        node_of: node of each block or page; -1 if it is not registered.
            Shape `[num_blocks + num_pages]` (int64).
        place: its position in that node; the same shape.
        parents: parent of each node, -1 for none; None if there are more nodes than `MOST_NODES`.
        namespaces: of the nodes that are roots.
    """

    node_of: Int64s
    place: Int64s
    parents: Int64s | None
    namespaces: Mapping[int, str]

    @property
    def num_nodes(self) -> int:
        """Nodes that have blocks."""
        return int(np.count_nonzero(self._lengths()))

    @property
    def max_depth(self) -> int | None:
        """Blocks of the longest prefix; None if there are too many nodes."""
        ends = self._ends(self._lengths())
        return None if ends is None else int(ends.max(initial=0))

    def shared(self, num_holders: Int64s, count: int) -> list[SharedPrefix]:
        """Prefixes that save most blocks, at most so many.

        Args:
            num_holders: how many sequences have each block. Shape `[num_blocks]` (int64).
            count: how many.
        """
        blocks = np.flatnonzero((self.node_of[: len(num_holders)] >= 0) & (num_holders > 1))
        nodes, holders = self.node_of[blocks], num_holders[blocks]
        lengths = self._lengths()
        saved = np.bincount(nodes, holders - 1, minlength=len(lengths)).astype(np.int64)
        widths = np.bincount(nodes, minlength=len(lengths))
        most = np.zeros(len(lengths), np.int64)
        np.maximum.at(most, nodes, holders)
        ends = self._ends(lengths)
        first = np.argsort(-saved, kind="stable")[:count].tolist()
        return [
            SharedPrefix(
                namespace=self._namespace(node),
                num_sequences=int(most[node]),
                num_blocks=int(widths[node]),
                depth=None if ends is None else int(ends[node] - lengths[node] + widths[node]),
                num_blocks_saved=int(saved[node]),
            )
            for node in first
            if saved[node]
        ]

    def _lengths(self) -> Int64s:
        """Blocks of each node."""
        num_nodes = 0 if self.parents is None else len(self.parents)
        return np.bincount(self.node_of[self.node_of >= 0], minlength=num_nodes)

    def _ends(self, lengths: Int64s) -> Int64s | None:
        """Blocks from the root to the end of each node. Each adds what is above it, ever farther."""
        if self.parents is None:
            return None
        ends, above = np.append(lengths, 0), np.append(self.parents, -1)
        while (above >= 0).any():
            ends, above = ends + ends[above], above[above]
        return ends[:-1]

    def _namespace(self, node: int) -> str | None:
        if self.parents is None:
            return None
        while self.parents[node] >= 0:
            node = int(self.parents[node])
        return self.namespaces.get(node)

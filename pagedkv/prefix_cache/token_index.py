"""Index by the tokens themselves: a radix tree whose edges are runs of whole blocks.

A prefix hits if and only if its tokens, compared byte by byte, are those on the path from the root of its
namespace. There is no hash to collide and no digest to pay for. A run of blocks that no other prefix divides
is one edge, so a warm 4096-token prompt is found by a few memory comparisons, registering a cold one adds one
node, and evicting its tail cuts one edge, whatever the number of blocks.

Sequences that decode make their edges longer, hundreds in one step. That is done for all of them by a few
vector operations on per-block arrays; an edge takes up what grew behind it when somebody next looks at it.

Source: the radix tree of Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs",
2024, section 3; here edges hold block-aligned token bytes and block ids instead of token lists.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int32s, Int64s, two_views
from pagedkv.errors import InvariantError
from pagedkv.prefix_cache.tree import MOST_NODES, PrefixTree

__all__ = ["TokenIndex"]

_NOWHERE = -1
_TIP = -2
_NONE = np.empty(0, np.int64)


class _Node:
    """An edge of the tree with what hangs below it.

    `blocks[i]` holds the KV of the tokens `keys[i * width : (i + 1) * width]` behind the path above.
    `children` is keyed by the bytes of the child's first block. A root has neither keys nor blocks. What grew
    behind the last block (`TokenIndex.grow`) is taken up by `TokenIndex._settle`.
    """

    __slots__ = ("blocks", "children", "keys", "number", "parent")

    def __init__(self, number: int, parent: "_Node | None", keys: bytearray, blocks: "array[int]") -> None:
        self.number = number
        self.parent = parent
        self.keys = keys
        self.blocks = blocks
        self.children: dict[bytes, _Node] = {}


class TokenIndex:
    """Exact prefix index of full blocks, by namespace.

    Keys are token ids as little-endian int32 bytes, `width` = 4 x block_size bytes for each block. A block is
    registered at most once, and a path at most once: the first block to hold a prefix stays its block.
    Dropping a block drops everything below it, so a child never outlives its parent in the index.

    Args:
        tokens: token ids of every block; those of a registered block do not change. Blocks may be pages below
            the device as well: their ids are only numbers here.
            Shape `[num_blocks, block_size]` (int32).
    """

    def __init__(self, tokens: Int32s) -> None:
        num_blocks, block_size = tokens.shape
        self._tokens = tokens
        self._width: int = 4 * block_size
        self._roots: dict[str, _Node] = {}
        self._namespace_of: dict[int, str] = {}  # by number of the root
        self._nodes: list[_Node | None] = []
        self._spare_numbers: list[int] = []
        nowhere = np.full(num_blocks, _NOWHERE, np.int64)
        self._node_of, self._node_of_v = two_views(nowhere)  # per block: number of its node
        self._place, self._place_v = two_views(nowhere)  # per block: its position in that node
        # Per block: _TIP if it ends a node without children, the block that grew behind it and is not settled
        # yet, or _NOWHERE.
        self._next, self._next_v = two_views(nowhere)
        self._registration_v = np.zeros(num_blocks, np.int64)  # per block: number of its last registration
        self._num_registrations = 0
        self._size = 0

    def __len__(self) -> int:
        """Blocks that are registered."""
        return self._size

    def __contains__(self, block: int) -> bool:
        """Whether the block is registered."""
        return self._node_of[block] >= 0

    def holds_all(self, blocks: Int64s) -> bool:
        """Whether every one of these blocks is registered."""
        return _all(self._node_of_v[blocks] >= 0)

    def registration(self, block: int) -> int:
        """A number that the block has from one registration to the next `forget`, and never again; else 0."""
        return int(self._registration_v[block]) if self._node_of[block] >= 0 else 0

    def before(self, block: int) -> int:
        """The block before a registered one in its prefix; -1 if it is the first."""
        node, place = self._known(block), self._place[block]
        if place > len(node.blocks):
            self._settle(node)
        if place:
            return node.blocks[place - 1]
        parent = node.parent
        return parent.blocks[-1] if parent is not None and parent.blocks else _NOWHERE

    def namespace(self, block: int) -> str:
        """The namespace of a registered block."""
        node = self._known(block)
        while node.parent is not None:
            node = node.parent
        return self._namespace_of[node.number]

    def match(self, namespace: str, keys: bytes) -> "array[int]":
        """Blocks of the longest registered prefix of `keys`, whole blocks only."""
        root = self._roots.get(namespace)
        return array("q") if root is None else self._walk(root, 0, keys)[0]

    def insert(
        self, namespace: str, keys: bytes, blocks: "array[int]", behind: int | None = None
    ) -> "tuple[array[int], array[int]]":
        """Register a run of blocks; prefixes that have a block already keep it.

        Args:
            namespace: prefixes of different namespaces never match.
            keys: bytes of the tokens of all `blocks`.
            blocks: at least one, in order; those behind the part that is found must not be registered.
            behind: the registered block that the run continues; None for a run from the start of a sequence.

        Returns:
            The blocks that stand for leading prefixes already, and those that were registered for the rest.
        """
        found, node, place = self._walk(*self._position(namespace, behind), keys)
        added = blocks[len(found) :]
        if added:
            self._attach(node, place, keys[len(found) * self._width :], added)
        return found, added

    def grow(self, behind: Int64s, blocks: Int64s) -> Int64s:
        """Register each block behind a registered one where nothing stands yet: sequences that decode.

        Args:
            behind: for each block the one before it in its sequence.
            blocks: distinct blocks, one for each sequence; their tokens are in place.

        Returns:
            Positions of those that are not as simple as that, left to `insert`.
        """
        following = self._next_v
        grows = following[behind] == _TIP
        if not _all(grows):
            behind, blocks = behind[grows], blocks[grows]
        following[behind[::-1]] = blocks[::-1]  # of several behind the same block, the first
        first = following[behind] == blocks
        if not _all(first):
            grows[grows] = first
            behind, blocks = behind[first], blocks[first]
        following[blocks] = _TIP
        self._node_of_v[blocks] = self._node_of_v[behind]
        self._place_v[blocks] = self._place_v[behind] + 1
        self._size += len(blocks)
        self._number(blocks)
        return _NONE if len(blocks) == len(grows) else np.flatnonzero(~grows)

    def substitute(self, old: Int64s, new: Int64s) -> None:
        """Let unregistered blocks stand for the prefixes of registered ones, whose tokens they hold too."""
        for was, now in zip(old.tolist(), new.tolist(), strict=True):
            node = self._known(was)
            self._settle(node)
            place = self._place[was]
            node.blocks[place] = now
            self._node_of[now], self._place[now] = node.number, place
            self._next[now], self._next[was] = self._next[was], _NOWHERE
            self._node_of[was] = _NOWHERE
        self._number(new)

    def forget(self, blocks: Int64s) -> "array[int]":
        """Drop these blocks and everything below them.

        Returns:
            All blocks that were dropped, those of `blocks` that were registered among them.
        """
        dropped = array("q")
        for block in blocks[
            ::-1
        ].tolist():  # evicted tails come last block first: the first cut takes the others
            number = self._node_of[block]
            node = self._nodes[number] if number >= 0 else None
            if node is not None:
                self._cut(node, self._place[block], dropped)
        return dropped

    def blocks(self) -> Int64s:
        """Every registered block, by id."""
        return np.flatnonzero(self._node_of_v >= 0)

    def copied(self) -> PrefixTree:
        """The shape of the tree as it is now, for whoever looks at it later. Nothing is settled."""
        few = len(self._nodes) <= MOST_NODES
        return PrefixTree(
            node_of=self._node_of_v.copy(),
            place=self._place_v.copy(),
            parents=_parents(self._nodes) if few else None,
            namespaces=dict(self._namespace_of),
        )

    def paths(self) -> Iterator[tuple[Sequence[int], bytes]]:
        """Every edge as its blocks and their key bytes, for checks and pictures."""
        for node in self._nodes:
            if node is not None:
                self._settle(node)
                yield node.blocks, bytes(node.keys)

    def check_integrity(self) -> None:
        """Check that tree and block arrays agree.

        Raises:
            InvariantError: they do not.
        """
        total = 0
        for number, node in enumerate(self._nodes):
            if node is None:
                continue
            self._settle(node)
            total += len(node.blocks)
            self._check_node(number, node)
        if total != self._size or len(self.blocks()) != total:
            raise InvariantError(
                f"the tree holds {total} blocks, {len(self.blocks())} are marked, {self._size} counted"
            )

    # ---- how

    def _position(self, namespace: str, behind: int | None) -> tuple[_Node, int]:
        """Where a run that continues `behind` starts: a node, and a place in it or at its end."""
        if behind is None:
            return self._roots.get(namespace) or self._new_root(namespace), 0
        node = self._known(behind)
        self._settle(node)
        return node, self._place[behind] + 1

    def _known(self, block: int) -> _Node:
        """The node of a registered block."""
        number = self._node_of[block]
        node = self._nodes[number] if number >= 0 else None
        if node is None:
            raise InvariantError(f"block {block} is not registered, so it has no prefix")
        return node

    def _settle(self, node: _Node) -> None:
        """Take up the blocks that grew behind a node."""
        if not node.blocks:
            return
        last = node.blocks[-1]
        grown = array("q")
        while (following := self._next[last]) >= 0:
            self._next[last] = _NOWHERE
            grown.append(following)
            last = following
        if grown:
            node.blocks += grown
            node.keys += self._tokens[grown].tobytes()

    def _walk(self, node: _Node, place: int, keys: bytes) -> "tuple[array[int], _Node, int]":
        """Follow `keys` from a place in a node.

        Returns:
            The blocks found, the last node reached, and the place in it behind the match.
        """
        found = array("q")
        at, end = 0, len(keys)
        while at < end:
            if place == len(node.blocks):
                child = node.children.get(keys[at : at + self._width])
                if child is None:
                    break
                node, place = child, 0
                if self._next[node.blocks[-1]] >= 0:
                    self._settle(node)
            edge = node.keys[place * self._width :] if place else node.keys
            if keys.startswith(edge, at):
                at += len(edge)
                stop = len(node.blocks)
            elif edge.startswith(keys[at:]):
                stop = place + (end - at) // self._width
                at = end
            else:
                end = at
                stop = place + self._common(keys, at, edge)
            found += node.blocks[place:stop]
            place = stop
        return found, node, place

    def _common(self, keys: bytes, at: int, edge: bytearray) -> int:
        """Whole blocks that `keys` from `at` on and an edge share; neither is a prefix of the other."""
        num_words = min(len(edge), len(keys) - at) // 4
        differs = np.frombuffer(keys, np.int32, num_words, at) != np.frombuffer(edge, np.int32, num_words)
        first = int(differs.argmax())
        return 4 * first // self._width

    def _attach(self, node: _Node, place: int, keys: bytes, blocks: "array[int]") -> None:
        """Register unregistered `blocks` behind position `place` of a node."""
        if place < len(node.blocks):
            self._split(node, place)
        if node.children or node.parent is None:
            child = self._new_node(node, bytearray(keys), blocks[:])
            node.children[keys[: self._width]] = child
            self._claim(child, 0)
        else:  # a leaf becomes longer
            node.keys += keys
            node.blocks += blocks
            self._claim(node, place)
        if place:
            self._next[node.blocks[place - 1]] = _NOWHERE
        self._next[blocks[-1]] = _TIP
        self._size += len(blocks)
        self._number(np.frombuffer(blocks, np.int64))

    def _number(self, blocks: Int64s) -> None:
        """Give newly registered blocks the number of this registration."""
        self._num_registrations += 1
        self._registration_v[blocks] = self._num_registrations

    def _split(self, node: _Node, place: int) -> None:
        """Make what stands from `place` on a child of its own."""
        cut = place * self._width
        lower = self._new_node(node, node.keys[cut:], node.blocks[place:])
        lower.children = node.children
        for child in lower.children.values():
            child.parent = lower
        del node.keys[cut:], node.blocks[place:]
        node.children = {bytes(lower.keys[: self._width]): lower}
        self._claim(lower, 0)

    def _claim(self, node: _Node, start: int) -> None:
        """Record, for the node's blocks from position `start` on, where they now stand."""
        if len(node.blocks) - start == 1:
            block = node.blocks[start]
            self._node_of[block] = node.number
            self._place[block] = start
            return
        blocks = np.frombuffer(node.blocks[start:], np.int64)
        self._node_of_v[blocks] = node.number
        self._place_v[blocks] = np.arange(start, start + len(blocks))

    def _cut(self, node: _Node, place: int, dropped: "array[int]") -> None:
        """Drop the node's blocks from `place` on and all that hangs below; adds them to `dropped`."""
        start = len(dropped)
        self._settle(node)
        dropped += node.blocks[place:]
        doomed = list(node.children.values())
        node.children = {}
        if place == 0:
            self._unhook(node)
        else:
            del node.keys[place * self._width :], node.blocks[place:]
            self._next[node.blocks[-1]] = _TIP
        while doomed:
            gone = doomed.pop()
            self._settle(gone)
            dropped += gone.blocks
            doomed.extend(gone.children.values())
            self._retire(gone)
        self._size -= len(dropped) - start
        if len(dropped) - start == 1:
            self._node_of[dropped[start]] = self._next[dropped[start]] = _NOWHERE
        else:
            lost = np.frombuffer(dropped[start:], np.int64)
            self._node_of_v[lost] = self._next_v[lost] = _NOWHERE

    def _unhook(self, node: _Node) -> None:
        """Take a node that loses all its blocks out of its parent, and with it a root left empty."""
        parent = node.parent
        if parent is not None:
            del parent.children[bytes(node.keys[: self._width])]
            if parent.blocks and not parent.children:
                self._next[parent.blocks[-1]] = _TIP
            if parent.parent is None and not parent.children:
                del self._roots[self._namespace_of.pop(parent.number)]
                self._retire(parent)
        self._retire(node)

    def _new_root(self, namespace: str) -> _Node:
        root = self._roots[namespace] = self._new_node(None, bytearray(), array("q"))
        self._namespace_of[root.number] = namespace
        return root

    def _new_node(self, parent: _Node | None, keys: bytearray, blocks: "array[int]") -> _Node:
        number = self._spare_numbers.pop() if self._spare_numbers else len(self._nodes)
        node = _Node(number, parent, keys, blocks)
        if number == len(self._nodes):
            self._nodes.append(node)
        else:
            self._nodes[number] = node
        return node

    def _retire(self, node: _Node) -> None:
        self._nodes[node.number] = None
        self._spare_numbers.append(node.number)

    def _check_node(self, number: int, node: _Node) -> None:
        blocks = np.frombuffer(node.blocks[:], np.int64)
        sound = (
            node.number == number
            and len(node.keys) == len(blocks) * self._width
            and (self._node_of_v[blocks] == number).all()
            and (self._place_v[blocks] == np.arange(len(blocks))).all()
            and (self._next_v[blocks[:-1]] == _NOWHERE).all()
            and (not node.blocks or self._next[node.blocks[-1]] == (_NOWHERE if node.children else _TIP))
            and all(c.parent is node and c.keys.startswith(k) for k, c in node.children.items())
        )
        if not sound:
            raise InvariantError(
                f"node {number} with blocks {node.blocks.tolist()} disagrees with the block arrays"
            )


def _parents(nodes: Sequence[_Node | None]) -> Int64s:
    """Number of the parent of each node; -1 where there is none."""
    parents = [
        node.parent.number if node is not None and node.parent is not None else _NOWHERE for node in nodes
    ]
    return np.array(parents, np.int64)


def _all(mask: npt.NDArray[np.bool_]) -> bool:
    """`mask.all()` at a quarter of its fixed cost."""
    return b"\0" not in mask.tobytes()

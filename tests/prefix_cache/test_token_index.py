"""The radix index against a flat map from whole prefixes to blocks."""

from array import array

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagedkv.errors import InvariantError
from pagedkv.prefix_cache import IdIndex, TokenIndex
from tests.examples import examples

WIDTH = 4  # bytes of a block of one token


def keys_of(path: list[int]) -> bytes:
    """Key bytes of a path of one-token blocks."""
    return np.array(path, np.int32).tobytes()


class IndexMachine(RuleBasedStateMachine):
    """Paths over three tokens; a prefix is known by all of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = np.zeros((60, 1), np.int32)
        self.index = TokenIndex(self.tokens)
        self.block_of: dict[tuple[str, tuple[int, ...]], int] = {}
        self.spare = list(range(59))

    def matched(self, namespace: str, path: list[int]) -> list[int]:
        """Blocks of the leading prefixes of a path that are known."""
        blocks = []
        for n in range(1, len(path) + 1):
            if (namespace, tuple(path[:n])) not in self.block_of:
                break
            blocks.append(self.block_of[namespace, tuple(path[:n])])
        return blocks

    def known(self, namespace: str, path: list[int], blocks: list[int]) -> None:
        for n, block in enumerate(blocks, len(path) - len(blocks) + 1):
            self.tokens[block] = path[n - 1]
            self.block_of[namespace, tuple(path[:n])] = block
            self.spare.remove(block)

    @rule(path=st.lists(st.integers(0, 2), max_size=8), namespace=st.sampled_from(["", "x"]))
    def insert(self, path: list[int], namespace: str) -> None:
        found = self.matched(namespace, path)
        assert self.index.match(namespace, keys_of(path)).tolist() == found
        new = self.spare[: len(path) - len(found)]
        if len(found) + len(new) < len(path) or not path:
            return
        stood, added = self.index.insert(namespace, keys_of(path), array("q", found + new))
        assert (stood.tolist(), added.tolist()) == (found, new)
        self.known(namespace, path, new)

    @precondition(lambda self: self.block_of)
    @rule(data=st.data(), more=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def continue_behind(self, data: st.DataObject, more: list[int]) -> None:
        """A run behind a registered block is registered as if its whole path were given."""
        namespace, prefix = data.draw(st.sampled_from(sorted(self.block_of)))
        path = [*prefix, *more]
        found = self.matched(namespace, path)[len(prefix) :]
        new = self.spare[: len(more) - len(found)]
        if len(found) + len(new) < len(more):
            return
        run = array("q", found + new)
        stood, added = self.index.insert(namespace, keys_of(more), run, self.block_of[namespace, prefix])
        assert (stood.tolist(), added.tolist()) == (found, new)
        self.known(namespace, path, new)

    @precondition(lambda self: self.block_of and self.spare)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        """The bulk way takes each block behind a path that nothing continues; of several, the first."""
        behind = data.draw(st.lists(st.sampled_from(sorted(self.block_of)), min_size=1, max_size=6))
        behind = behind[: len(self.spare)]
        blocks, tokens = self.spare[: len(behind)], data.draw(st.permutations(range(6)))
        for block, token in zip(blocks, tokens, strict=False):
            self.tokens[block] = token
        continued = {(ns, path[:-1]) for ns, path in self.block_of}
        parents = np.array([self.block_of[key] for key in behind] + [59])  # and one that is not registered
        rest = self.index.grow(parents, np.array([*blocks, 59])).tolist()
        assert rest == [
            i for i, key in enumerate([*behind, None]) if key is None or key in continued or key in behind[:i]
        ]
        for i, (namespace, prefix) in enumerate(behind):
            if i not in rest:
                self.known(namespace, [*prefix, tokens[i]], [blocks[i]])

    @precondition(lambda self: self.block_of)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """What is forgotten goes with everything below it."""
        gone = data.draw(
            st.lists(st.sampled_from(sorted(self.block_of)), min_size=1, max_size=4, unique=True)
        )
        below = {
            key: block
            for key, block in self.block_of.items()
            if any(key[0] == ns and key[1][: len(p)] == p for ns, p in gone)
        }
        dropped = self.index.forget(np.array([self.block_of[key] for key in gone]))
        assert sorted(dropped) == sorted(below.values())
        for key, block in below.items():
            del self.block_of[key]
            self.spare.append(block)

    @invariant()
    def agrees(self) -> None:
        self.index.check_integrity()
        assert len(self.index) == len(self.block_of)
        assert self.index.blocks().tolist() == sorted(self.block_of.values())


def test_random_programs() -> None:
    """The radix tree answers what a flat map of whole prefixes answers."""
    run_state_machine_as_test(
        IndexMachine, settings=settings(max_examples=examples(200), stateful_step_count=30, deadline=None)
    )


def test_an_emptied_namespace_leaves_nothing_behind() -> None:
    """Namespaces come and go without a trace, so that one per tenant does not leak."""
    index = TokenIndex(np.zeros((8, 1), np.int32))
    for name in map(str, range(100)):
        _, added = index.insert(name, keys_of([1, 2]), array("q", [3, 4]))
        index.forget(np.array(added))
    assert not index._roots
    assert not index._namespace_of
    assert len(index._nodes) <= 4


def test_nothing_continues_an_unknown_block() -> None:
    """Registering behind a block that is not registered is a fault of the caller, and says so."""
    index = TokenIndex(np.zeros((8, 1), np.int32))
    with pytest.raises(InvariantError, match="block 5 is not registered"):
        index.insert("", keys_of([1]), array("q", [3]), 5)


def test_ready_ids_are_flat() -> None:
    """An id is found by itself, the first block to claim it keeps it, and a forgotten one is free again."""
    index = IdIndex(8)
    assert index.insert(["a", "b"], [0, 1]).tolist() == [0, 1]
    assert index.insert(["x", "b"], [2, 3]).tolist() == [2]
    assert index.match(["x", "b", "c"]).tolist() == [2, 1]
    assert index.forget(np.array([1])).tolist() == [1]
    assert index.match(["a", "b"]).tolist() == [0]
    assert index.insert(["b"], [3]).tolist() == [3]
    assert 3 in index
    assert 1 not in index
    index.check_integrity()

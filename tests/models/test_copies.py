"""Copies in order, as groups that run side by side."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given
from hypothesis import strategies as st

from pagedkv.models.copies import waves

Copies = list[tuple[int, int]]
block = st.integers(0, 7)


def _after(copies: Copies) -> list[int]:
    """What blocks hold when the copies have run one by one."""
    held = list(range(8))
    for source, target in copies:
        held[target] = held[source]
    return held


def test_independent_copies_are_one_group() -> None:
    """As those of a step nearly always are."""
    assert waves([(0, 1), (0, 2), (3, 4)]) == [[(0, 1), (0, 2), (3, 4)]]
    assert waves([]) == []


@given(st.lists(st.tuples(block, block), max_size=12))
def test_any_copies(copies: Copies) -> None:
    """Groups change nothing; in a group no destination is read, or written twice."""
    groups = waves(copies)
    assert _after([copy for group in groups for copy in group]) == _after(copies)
    for group in groups:
        assert group
        targets = [target for _, target in group]
        assert len(set(targets)) == len(targets)
        assert not set(targets) & {source for source, _ in group}
        assert _after(group) == _after(group[::-1])


@given(st.lists(st.tuples(block, block), max_size=12))
def test_as_few_groups_as_possible(copies: Copies) -> None:
    """As many as the longest chain of copies that must follow each other."""
    real = [copy for copy in copies if copy[0] != copy[1]]
    longest: list[int] = []
    for i, (source, target) in enumerate(real):
        before = [longest[j] for j in range(i) if real[j][1] in (source, target) or real[j][0] == target]
        longest.append(1 + max(before, default=0))
    assert len(waves(copies)) == max(longest, default=0)

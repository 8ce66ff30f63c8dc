"""Which page gives way, against models that are slow and plain."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagedkv.offload.replacement import ARC, FIFO, LRU, replacement
from tests.examples import examples

SIZE = 4
KEYS = st.integers(0, 9)
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["demote", "demote", "demote", "page in", "forget"]), KEYS), max_size=60
)


class PaperARC:
    """ARC as in figure 4 of the paper, for a cache whose hits stay: lists of keys, least recent first."""

    def __init__(self, size: int) -> None:
        self.size, self.p = size, 0.0
        self.t1: list[int] = []
        self.t2: list[int] = []
        self.b1: list[int] = []
        self.b2: list[int] = []

    def replace(self, in_b2: bool) -> None:
        if self.t1 and (len(self.t1) > self.p or (in_b2 and len(self.t1) == self.p)):
            self.b1.append(self.t1.pop(0))
        else:
            self.b2.append(self.t2.pop(0))

    def request(self, x: int) -> None:
        if x in self.t1 or x in self.t2:
            (self.t1 if x in self.t1 else self.t2).remove(x)
            self.t2.append(x)
        elif x in self.b1:
            self.p = min(self.size, self.p + max(1, len(self.b2) / len(self.b1)))
            self.replace(False)
            self.b1.remove(x)
            self.t2.append(x)
        elif x in self.b2:
            self.p = max(0, self.p - max(1, len(self.b1) / len(self.b2)))
            self.replace(True)
            self.b2.remove(x)
            self.t2.append(x)
        else:
            if len(self.t1) + len(self.b1) == self.size:
                if len(self.t1) < self.size:
                    self.b1.pop(0)
                    self.replace(False)
                else:
                    self.t1.pop(0)
            elif len(self.t1) + len(self.t2) + len(self.b1) + len(self.b2) >= self.size:
                if len(self.t1) + len(self.t2) + len(self.b1) + len(self.b2) == 2 * self.size:
                    self.b2.pop(0)
                if len(self.t1) + len(self.t2) == self.size:
                    self.replace(False)
            self.t1.append(x)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.integers(0, 11), max_size=120))
@example([0, 1, 2, 2, 3, 4, 0, 6, 8, 3, 4, 5, 7, 1])  # a ghost was forgotten while a page was one too many
def test_arc_does_what_the_paper_says(requests: list[int]) -> None:
    """With hits that stay (`touch`), its four lists are those of figure 4, step by step."""
    model, arc = PaperARC(SIZE), ARC(SIZE, 0)
    page_of: dict[int, int] = {}
    for page, x in enumerate(requests):
        model.request(x)
        if x in page_of:
            arc.touch(page_of[x])
        else:
            arc.admit(page, x)
            page_of[x] = page
            if len(arc) > SIZE:
                gone = arc.evict()
                page_of = {key: p for key, p in page_of.items() if p != gone}
        assert list(arc._once.values()) == model.t1
        assert list(arc._again.values()) == model.t2
        assert list(arc._once_ghosts) == model.b1
        assert list(arc._again_ghosts) == model.b2
        assert arc._target == model.p


def test_what_came_back_counts_as_seen_twice() -> None:
    """A scan through an exclusive tier does not push out what was wanted: that is what ARC is for."""
    arc = ARC(SIZE, 100)
    for key in (1, 2):
        arc.admit(key, key)
        arc.remove(key, wanted=True)
        arc.admit(key + 10, key)
    for key in range(50, 80):
        arc.admit(key, key)
        if len(arc) > SIZE:
            arc.evict()
    assert 11 in arc
    assert 12 in arc
    assert [arc.evict() for _ in range(4)] == [78, 11, 12, 79]  # the newest comes last
    assert arc.evict() is None


@settings(max_examples=examples(200), deadline=None)
@given(ACTIONS)
def test_lru_and_fifo_are_orders_of_content(actions: list[tuple[str, int]]) -> None:
    """LRU goes by when content was last evicted, FIFO by when it first came, however often it was away."""
    lru, fifo = LRU(), FIFO(100)
    came: dict[int, int] = {}
    last: dict[int, int] = {}
    away: set[int] = set()
    for now, (action, key) in enumerate(actions):
        if action == "demote" and key not in last:
            lru.admit(key, key)
            fifo.admit(key, key)
            last[key] = now
            if key not in away:
                came[key] = now
            away.discard(key)
        elif action != "demote" and key in last:
            for order in (lru, fifo):
                order.remove(key, wanted=action == "page in")
            del last[key]
            if action == "page in":
                away.add(key)
        assert [key in lru for key in range(10)] == [key in fifo for key in range(10)]
    assert [lru.evict() for _ in range(len(lru))] == sorted(last, key=last.__getitem__)
    assert [fifo.evict() for _ in range(len(fifo))] == sorted(last, key=came.__getitem__)
    assert lru.evict() is fifo.evict() is None


@pytest.mark.parametrize("policy", ["lru", "arc", "fifo"])
@settings(max_examples=examples(100), deadline=None)
@given(actions=ACTIONS)
def test_every_page_leaves_once(policy: str, actions: list[tuple[str, int]]) -> None:
    """Whatever the order, what is in it is what came and did not leave."""
    order = replacement(policy, SIZE, 100)
    held: dict[int, int] = {}  # page -> key
    for page, (action, key) in enumerate(actions):
        if action == "demote" and key not in held.values():
            order.admit(page, key)
            held[page] = key
            while len(order) > SIZE:
                del held[order.evict()]
        elif action != "demote" and key in held.values():
            gone = next(p for p in held if held[p] == key)
            order.remove(gone, wanted=action == "page in")
            del held[gone]
        assert len(order) == len(held)
        assert all(p in order for p in held)


def test_touch_moves_behind_the_others_but_not_in_fifo() -> None:
    """A page that was used goes later in LRU, and no later in FIFO."""
    lru, fifo = LRU(), FIFO(10)
    for order in (lru, fifo):
        for page in range(3):
            order.admit(page, page)
        order.touch(0)
    assert [lru.evict() for _ in range(3)] == [1, 2, 0]
    assert [fifo.evict() for _ in range(3)] == [0, 1, 2]


def test_fifo_does_not_grow_with_pages_that_left() -> None:
    """Entries of pages that are gone are cleared away now and then."""
    fifo = FIFO(8)
    for page in range(10_000):
        fifo.admit(page, page)
        fifo.remove(page, wanted=True)
    assert len(fifo._heap) < 100
    assert len(fifo._away._values) == 8

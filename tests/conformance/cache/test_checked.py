"""The checked cache: a stand-in for the cache that it verifies, and a witness when that goes wrong."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pytest_pagedkv.adapter import KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters.pagedkv import PagedKVAdapter
from pytest_pagedkv.conformance import CheckedCache, InvariantViolation
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache


class Forgetful(PagedKVAdapter):
    """Writes into a shared block without the copy."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        super().append(seq_id, token_ids)
        return Placement()


class Moving(ReferenceCache):
    """Changes the table of a sequence when nobody asks for it."""

    def move(self) -> None:
        sequence = next(iter(self._sequences.values()))
        sequence.table[:] = reversed(sequence.table)


class Counting(PagedKVAdapter):
    """Counts what it is asked."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.asked: Counter[str] = Counter()

    def block_table(self, seq_id: int) -> Sequence[int]:
        self.asked["block_table"] += 1
        return super().block_table(seq_id)

    def ref_counts(self) -> Any:
        self.asked["ref_counts"] += 1
        return super().ref_counts()


def workload(cache: CheckedCache | KVCacheAdapter, num_calls: int) -> list[object]:
    """Random calls; gives what they answered."""
    rng, answers, live = random.Random(7), list[object](), list[int]()  # noqa: S311 - a workload
    for number in range(num_calls):
        try:
            if not live or rng.random() < 0.3:
                prompt = [rng.randint(0, 1) for _ in range(rng.randint(1, 30))]
                answers.append(cache.admit(number, prompt).num_cached_tokens)
                live.append(number)
            elif rng.random() < 0.5:
                answers.append(list(cache.append(rng.choice(live), [rng.randint(0, 1)]).copies))
            else:
                cache.release(live.pop(rng.randrange(len(live))))
        except OutOfBlocks as error:
            answers.append(type(error))
            continue
        answers += [list(cache.block_table(seq_id)) for seq_id in live] + [cache.num_free_blocks()]
    return answers


def test_it_stands_in_for_the_cache() -> None:
    """Every answer is the cache's own, in any mode."""
    bare = workload(PagedKVAdapter(24, 4), 400)

    assert workload(CheckedCache(PagedKVAdapter(24, 4)), 400) == bare
    assert workload(CheckedCache(PagedKVAdapter(24, 4), full_check_every=50, history=10), 400) == bare


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (KeyError, lambda cache: cache.append(5, [1])),
        (KeyError, lambda cache: cache.release(5)),
        (KeyError, lambda cache: cache.truncate(5, 1)),
        (KeyError, lambda cache: cache.fork(5, 6)),
        (ValueError, lambda cache: cache.admit(0, [1])),
        (ValueError, lambda cache: cache.fork(0, 0)),
        (OutOfBlocks, lambda cache: cache.admit(1, [1] * 100)),
        (ValueError, lambda cache: cache.admit(1, [])),
        (ValueError, lambda cache: cache.truncate(0, 4)),
        (ValueError, lambda cache: cache.swap_in(0)),
    ],
)
def test_documented_errors_pass_through(error: type[Exception], call: Callable[[CheckedCache], None]) -> None:
    """What the cache has to refuse is refused, and the cache goes on."""
    cache = CheckedCache(PagedKVAdapter(8, 2))
    cache.admit(0, [1, 2, 3])

    with pytest.raises(error):
        call(cache)

    cache.append(0, [4])
    cache.close()


def test_a_violation_tells_everything() -> None:
    """The invariant, who reads whose data, the pool, and a program that shows it once more."""
    cache = CheckedCache(Forgetful(6, 2))
    cache.admit(0, [1, 2, 3])
    cache.fork(0, 1)

    with pytest.raises(InvariantViolation) as caught:
        cache.append(1, [4])

    told = str(caught.value)
    assert caught.value.invariant == "shadow"
    assert "sequence 1 would read a slot that was never written at its position 2 (block 2, slot 0)" in told
    assert "Forgetful(6, 2)" in told
    assert "call     append(1, [4])" in told
    assert "\n    2  1[1]                   1  . 1:3\n" in told
    program = told[told.index("from pytest_pagedkv.conformance import") :]
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102 - it is what a user pastes
    with pytest.raises(InvariantViolation, match=r"^shadow: "):
        names["test_shadow"]()


def test_what_happens_between_calls_is_seen() -> None:
    """A full check reads every table, also of sequences that no call was about."""
    adapter = Moving(8, 2)
    cache = CheckedCache(adapter)
    cache.admit(0, [1, 2, 3, 4])
    adapter.move()

    with pytest.raises(InvariantViolation, match=r"^shadow: sequence 0 would read position 2 of sequence 0"):
        cache.check()


def test_a_soak_test_reads_little() -> None:
    """With rare full checks a call reads its own table, whatever the number of sequences."""
    adapter = Counting(4096, 4)
    cache = CheckedCache(adapter, full_check_every=1000, history=50)
    for seq_id in range(500):
        cache.admit(seq_id, [seq_id, 2, 3])
    adapter.asked.clear()

    for seq_id in range(400):
        cache.append(seq_id, [1])

    assert adapter.asked == {"block_table": 400}
    assert len(cache.calls) <= 100
    cache.check()
    assert adapter.asked == {"block_table": 900, "ref_counts": 1}


def test_the_whole_has_to_come_home() -> None:
    """close() releases what is live, asks for the whole pool, and leaves the cache empty."""
    adapter = PagedKVAdapter(8, 2)
    cache = CheckedCache(adapter)
    cache.admit(3, [1, 2, 3])
    cache.fork(3, 4)

    cache.close()

    assert adapter.num_free_blocks() == 8
    assert adapter.cache.num_sequences == 0


def test_settings_are_checked() -> None:
    """A full check every zero calls is none."""
    with pytest.raises(ValueError, match="full_check_every is 0"):
        CheckedCache(PagedKVAdapter(8, 2), full_check_every=0)

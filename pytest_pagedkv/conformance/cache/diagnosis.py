"""Why something is wrong, found out by making some of the calls again on new caches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.books import drain
from pytest_pagedkv.conformance.cache.calls import Call

__all__ = ["LostPrefix", "blocks_taken", "twice_free_after", "without_refusals"]


def without_refusals(calls: Sequence[Call]) -> list[Call]:
    """The calls, the last one in any case, without those before it that were refused."""
    return [*(call for call in calls[:-1] if not call.outcome), *calls[-1:]]


@dataclass(frozen=True, slots=True)
class LostPrefix:
    """A prefix that a sequence left behind, and that a later request does not find.

    Attributes:
        calls: all calls; the last one is that request.
        since: number of calls up to the one that left it behind.
        num_tokens: length of what should be found.
        fresh: makes a new cache.
    """

    calls: Sequence[Call]
    since: int
    num_tokens: int
    fresh: Callable[[], KVCacheAdapter]

    def is_evicted(self) -> bool:
        """It gave way to a call that was handed blocks; else it was lost otherwise, or never there."""
        lost = self._lost_after()
        return (
            lost > self.since
            and self.calls[lost - 1].num_free < self.calls[lost - 2].num_free
            and not self._was_held(lost)
        )

    def _lost_after(self) -> int:
        """After how many calls it was lost; `since` if it was never there."""
        low, high = self.since, len(self.calls) - 1
        while low < high:
            middle = (low + high) // 2
            if self._ask(middle)[0] < self.num_tokens:
                high = middle
            else:
                low = middle + 1
        return high

    def _was_held(self, lost: int) -> bool:
        """The first block that was lost had an owner, and cannot have been evicted."""
        before = self.calls[: lost - 1]
        adapter = self.fresh()
        _make(before, adapter)
        held = {block for seq_id in _live(before) for block in adapter.block_table(seq_id)}
        first = self._ask(lost)[0] // adapter.block_size
        return not held.isdisjoint(self._ask(lost - 1)[1][first : first + 1])

    def _ask(self, num_calls: int) -> tuple[int, Sequence[int]]:
        """Tokens that a request for the prefix finds after so many calls, and its blocks; none if refused.

        Whatever is live is released first, so that there is room: that evicts nothing.
        """
        made = self.calls[:num_calls]
        seq_id, tokens, *namespace = self.calls[-1].arguments
        request = Call("admit", (seq_id, tokens[: self.num_tokens + 1], *namespace))
        adapter = self.fresh()
        answer = _make([*made, *(Call("release", (live,)) for live in _live(made)), request], adapter)
        cached: int = getattr(answer, "num_cached_tokens", 0)
        return cached, () if answer is None else adapter.block_table(seq_id)


def _live(calls: Iterable[Call]) -> Iterable[int]:
    """The sequences that these calls leave live."""
    live: dict[int, None] = {}
    for call in calls:
        if call.name in ("admit", "fork") and not call.outcome:
            live[call.arguments[call.name == "fork"]] = None
        elif call.name == "release":
            live.pop(call.arguments[0], None)
    return live


def twice_free_after(calls: Sequence[Call], fresh: Callable[[], KVCacheAdapter]) -> Call | None:
    """The first of these calls after which a pool that is asked for all it has hands out a block twice."""
    for stop in range(1, len(calls)):
        adapter = fresh()
        _make(calls[:stop], adapter)
        handed = list(drain(adapter))
        if len(set(handed)) < len(handed):
            return calls[stop - 1]
    return None


def blocks_taken(calls: Sequence[Call], adapter: KVCacheAdapter) -> int:
    """Free blocks that the last of these calls takes on a new cache; all if it is refused."""
    _make(calls[:-1], adapter)
    before = adapter.num_free_blocks()
    return (
        before - adapter.num_free_blocks() if _make(calls[-1:], adapter) is not None else adapter.num_blocks
    )


def _make(calls: Iterable[Call], adapter: KVCacheAdapter) -> object:
    """Make calls, and give what the last one returned; None if it was refused."""
    answer = None
    for call in calls:
        arguments = [list(value) if isinstance(value, tuple) else value for value in call.arguments]
        try:
            answer = getattr(adapter, call.name)(*arguments)
        except Exception:  # noqa: BLE001 - refusals are part of a program, and the cache is known to be broken
            answer = None
    return answer

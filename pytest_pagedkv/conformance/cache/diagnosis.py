"""Why something is wrong, found out by making some of the calls again on new caches."""

from collections.abc import Callable, Iterable, Sequence

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.books import drain
from pytest_pagedkv.conformance.cache.calls import Call

__all__ = ["lost_after", "twice_free_after", "without_refusals"]

_Maker = Callable[[], KVCacheAdapter]


def without_refusals(calls: Sequence[Call]) -> list[Call]:
    """The calls, the last one in any case, without those before it that were refused."""
    return [*(call for call in calls[:-1] if not call.outcome), *calls[-1:]]


def lost_after(calls: Sequence[Call], since: int, num_tokens: int, fresh: _Maker) -> int:
    """After how many calls a prefix was lost.

    Args:
        calls: all calls; the last one is an admission that should find the prefix, and does not.
        since: calls up to the one that left it behind.
        num_tokens: length of the prefix.
        fresh: makes a new cache.

    Returns:
        `since` if it was never there.
    """
    seq_id, tokens, *namespace = calls[-1].arguments
    probe = Call("admit", (seq_id, tokens[: num_tokens + 1], *namespace))
    low, high = since, len(calls) - 1
    while low < high:
        middle = (low + high) // 2
        if _hits([*calls[:middle], *_releases(calls[:middle]), probe], fresh()) < num_tokens:
            high = middle
        else:
            low = middle + 1
    return high


def _releases(calls: Iterable[Call]) -> list[Call]:
    """Calls that end what these leave live, so that there is room; a release evicts nothing."""
    live: dict[int, None] = {}
    for call in calls:
        if call.name in ("admit", "fork") and not call.outcome:
            live[call.arguments[call.name == "fork"]] = None
        elif call.name == "release":
            live.pop(call.arguments[0], None)
    return [Call("release", (seq_id,)) for seq_id in live]


def twice_free_after(calls: Sequence[Call], fresh: _Maker) -> Call | None:
    """The first of these calls after which a pool that is asked for all it has hands out a block twice."""
    for stop in range(1, len(calls)):
        adapter = fresh()
        _make(calls[:stop], adapter)
        handed = list(drain(adapter))
        if len(set(handed)) < len(handed):
            return calls[stop - 1]
    return None


def _hits(calls: Sequence[Call], adapter: KVCacheAdapter) -> int:
    """Tokens that the last of these calls finds cached; none if it is refused."""
    return getattr(_make(calls, adapter), "num_cached_tokens", 0)


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

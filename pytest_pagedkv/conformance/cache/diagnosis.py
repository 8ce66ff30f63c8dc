"""Why something is wrong, found out by making some of the calls again on a new cache."""

from collections.abc import Iterable, Sequence

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Call

__all__ = ["cached_by_last", "without_refusals"]


def cached_by_last(calls: Iterable[Call], fresh: KVCacheAdapter) -> int:
    """Tokens that the last of these calls finds cached, made on a new cache; 0 if it is refused."""
    cached = 0
    for call in calls:
        arguments = [list(value) if isinstance(value, tuple) else value for value in call.arguments]
        try:
            answer = getattr(fresh, call.name)(*arguments)
        except Exception:  # noqa: BLE001 - refusals are part of the program, and the cache is known to be broken
            answer = None
        cached = getattr(answer, "num_cached_tokens", 0)
    return cached


def without_refusals(calls: Sequence[Call]) -> list[Call]:
    """The calls, the last one in any case, without those before it that were refused."""
    return [*(call for call in calls[:-1] if not call.outcome), *calls[-1:]]

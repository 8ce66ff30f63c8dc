"""Whether calls that were refused left traces that only show later."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Call
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_refusals_left_nothing"]


def check_refusals_left_nothing(calls: Sequence[Call], fresh: Callable[[], KVCacheAdapter]) -> None:
    """Make the calls that succeeded once more, without those that were refused, and compare the answers.

    A failed admission that made its hits look recently used, say, changes what is evicted next, and nothing
    else.

    Args:
        calls: all calls made on a cache since it was new, each with its answer.
        fresh: makes a cache like that one.

    Raises:
        InvariantViolation: an answer is another one.
    """
    if not any(call.outcome for call in calls):
        return
    refused: list[Call] = []
    again = fresh()
    for call in calls:
        if call.outcome:
            refused.append(call)
            continue
        with_refusals = (call.cached, call.num_free)
        without = _made_again(call, again)
        if without == with_refusals:
            continue
        if not refused or not _repeats(calls, fresh()):
            return  # the cache does not do the same twice
        name = "atomic-failure" if _lacked_room(refused) else "documented-errors"
        raise InvariantViolation(
            name,
            f"{call} gave {_told(with_refusals)}; without the refused calls before it, such as "
            f"{refused[-1]}, it gives {_told(without)}",
        )


def _repeats(calls: Sequence[Call], fresh: KVCacheAdapter) -> bool:
    """All of the calls, refused ones too, answer as they did."""
    for call in calls:
        if call.outcome:
            with suppress(Exception):
                _made_again(call, fresh)
        elif _made_again(call, fresh) != (call.cached, call.num_free):
            return False
    return True


def _made_again(call: Call, fresh: KVCacheAdapter) -> tuple[int, int]:
    arguments = [list(argument) if isinstance(argument, tuple) else argument for argument in call.arguments]
    try:
        answer = getattr(fresh, call.name)(*arguments)
    except Exception as error:
        raise InvariantViolation(
            "atomic-failure", f"{call} succeeded; without the refused calls before it, it raises {error!r}"
        ) from error
    return getattr(answer, "num_cached_tokens", 0), fresh.num_free_blocks()


def _lacked_room(refused: Sequence[Call]) -> bool:
    return any(call.outcome == "OutOfBlocks" for call in refused)


def _told(answer: tuple[int, int]) -> str:
    return f"{answer[0]} cached tokens and left {answer[1]} blocks free"

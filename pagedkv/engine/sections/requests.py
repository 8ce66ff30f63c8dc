"""The live requests."""

from collections.abc import Callable
from typing import Any

from pagedkv.engine.sections.subject import Subject, breathe
from pagedkv.scheduler import RequestState

__all__ = ["requests"]

_NS_PER_MS = 1e6
_AT_ONCE = 32

_Sequence = tuple[int, int, int]
"""Id, index, generated tokens."""


def requests(subject: Subject) -> Callable[[], list[dict[str, Any]]]:
    """One after the other, in the order in which they came."""
    cache, now_ns = subject.cache, subject.now_ns
    copies = [_copied(state) for state in list(subject.scheduler.requests.values())]

    def show() -> list[dict[str, Any]]:
        shown = []
        for number, (values, times, sequences) in enumerate(copies):
            shown.append(_shown(values, times, now_ns, [_sequence(each, cache) for each in sequences]))
            if number % _AT_ONCE == 0:
                breathe()
        return shown

    return show


def _copied(state: RequestState) -> tuple[tuple[Any, ...], tuple[int, int], list[_Sequence]]:
    request = state.request
    values = (
        request.request_id,
        state.status.value,
        request.priority,
        request.prompt.num_tokens,
        request.max_tokens,
        state.num_cached_tokens,
        state.num_preemptions,
        state.num_lost_tokens,
        state.num_overtakes,
        state.is_promoted,
        len(state.finished),
    )
    sequences = [(each.seq_id, each.index, each.num_output_tokens) for each in state.sequences]
    return values, (state.arrival_ns, state.queued_ns), sequences


def _shown(
    values: tuple[Any, ...], times: tuple[int, int], now_ns: int, sequences: list[dict[str, int]]
) -> dict[str, Any]:
    request_id, status, priority, num_prompt, most, *counts = values
    num_cached, num_preemptions, num_lost, num_overtakes, is_promoted, num_finished = counts
    arrival_ns, queued_ns = times
    return {
        "request_id": request_id,
        "status": status,
        "priority": priority,
        "age_ms": (now_ns - arrival_ns) / _NS_PER_MS,
        "waiting_ms": (now_ns - queued_ns) / _NS_PER_MS if status == "waiting" else 0.0,
        "num_prompt_tokens": num_prompt,
        "max_tokens": most,
        "num_cached_tokens": num_cached,
        "num_preemptions": num_preemptions,
        "num_lost_tokens": num_lost,
        "num_overtakes": num_overtakes,
        "is_promoted": is_promoted,
        "num_finished_sequences": num_finished,
        "sequences": sequences,
    }


def _sequence(sequence: _Sequence, cache: Any) -> dict[str, int]:
    seq_id, index, num_output_tokens = sequence
    return {
        "seq_id": seq_id,
        "index": index,
        "num_output_tokens": num_output_tokens,
        "num_blocks": len(cache.table(seq_id)),
    }

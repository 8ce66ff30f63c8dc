"""Whether a call costs more on a larger pool: CPU time on 1k and on 64k blocks.

An operation that walks the pool costs 64 times as much there. What is tolerated is three times as much, which
leaves room for caches that no longer fit the processor's, and a cost counts only if it shows three times in
a row.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_pagedkv.adapter import Feature, KVCacheAdapter
from pytest_pagedkv.conformance.cache.making import make_adapter
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["OPERATIONS", "Growth", "check_growth"]

_SMALL, _LARGE = 1024, 65536
_TOLERATED = 3.0
_ATTEMPTS = 3
_BATCHES = 5
_CALLS = 8
_CHUNK = 512  # blocks of a sequence that fills the pool

_Operation = Callable[[KVCacheAdapter], None]


@dataclass(frozen=True, slots=True)
class Growth:
    """The cost of an operation on two pools.

    Attributes:
        small_us: CPU time on the small pool, best of several.
        large_us: on the large one.
    """

    small_us: float
    large_us: float

    @property
    def ratio(self) -> float:
        """How much more it is."""
        return self.large_us / self.small_us


def _prompt(adapter: KVCacheAdapter, name: int, num_blocks: int) -> list[int]:
    """A prompt of full blocks and one token, which shares nothing with one of another name."""
    return [name] * (num_blocks * adapter.block_size + 1)


_PROBE, _OTHER, _LIVE, _REST = 7, 8, 9, 10
_FILLERS = 100


def _admit(adapter: KVCacheAdapter) -> None:
    adapter.admit(_OTHER, [_OTHER])
    adapter.release(_OTHER)


def _admit_cached(adapter: KVCacheAdapter) -> None:
    adapter.admit(_PROBE, _prompt(adapter, _PROBE, 4))
    adapter.release(_PROBE)


def _append(adapter: KVCacheAdapter) -> None:
    adapter.append(_LIVE, [_LIVE])


def _fork(adapter: KVCacheAdapter) -> None:
    adapter.fork(_LIVE, _OTHER)
    adapter.append(_OTHER, [_OTHER])
    adapter.release(_OTHER)


def _truncate(adapter: KVCacheAdapter) -> None:
    adapter.append(_LIVE, [_LIVE] * adapter.block_size)
    adapter.truncate(_LIVE, adapter.block_size)


def _swap(adapter: KVCacheAdapter) -> None:
    adapter.swap_out(_LIVE)
    adapter.swap_in(_LIVE)


def _count_free(adapter: KVCacheAdapter) -> None:
    adapter.num_free_blocks()


OPERATIONS: Mapping[str, tuple[Feature, _Operation]] = MappingProxyType(
    {
        "admit and release": (Feature.NONE, _admit),
        "admit a cached prompt and release": (Feature.PREFIX_CACHE, _admit_cached),
        "append": (Feature.NONE, _append),
        "fork, append and release": (Feature.FORK, _fork),
        "append and truncate": (Feature.TRUNCATE, _truncate),
        "swap out and in": (Feature.SWAP, _swap),
        "num_free_blocks": (Feature.NONE, _count_free),
    }
)
"""What is timed, with the feature that it needs."""


def check_growth(adapter: type[KVCacheAdapter], operation: str, watch: Watch | None = None) -> Growth:
    """Compare the cost of an operation on the two pools.

    Args:
        adapter: the class under test.
        operation: one of `OPERATIONS`.
        watch: the time limit for all of it; None sets none.

    Raises:
        InvariantViolation: it costs more on the larger one, each time it is tried.
    """
    path = f"{adapter.__module__}:{adapter.__qualname__}"
    try:
        with (watch or Watch(float("inf"))).timing(f"measuring {operation!r}"):
            return _measured(adapter, operation, path)
    except InvariantViolation:
        raise
    except (Exception, SystemExit) as error:
        raise InvariantViolation(
            "documented-errors",
            f"measuring {operation!r} on pools of {_SMALL} and {_LARGE} blocks raised "
            f"{type(error).__name__}: {error}",
            adapter=path,
            call=operation,
        ) from error


def _measured(adapter: type[KVCacheAdapter], operation: str, path: str) -> Growth:
    """The least growth of a few measurements; a violation if it is too much each time."""
    pools = _pools(adapter)
    measured = [_growth(operation, *pools)]
    while measured[-1].ratio > _TOLERATED:
        if len(measured) == _ATTEMPTS:
            best = min(measured, key=lambda one: one.ratio)
            raise InvariantViolation(
                "complexity",
                f"{operation} takes {best.small_us:.1f} us on {_SMALL} blocks and {best.large_us:.1f} us on "
                f"{_LARGE}, {best.ratio:.0f} times as much (the least of {_ATTEMPTS} measurements; "
                f"{_TOLERATED:g} times are tolerated)",
                adapter=path,
                call=operation,
            )
        measured.append(_growth(operation, *pools))
    return min(measured, key=lambda one: one.ratio)


def _pools(adapter: type[KVCacheAdapter]) -> tuple[KVCacheAdapter, KVCacheAdapter]:
    return _churned(adapter, _SMALL), _churned(adapter, _LARGE)


def _growth(operation: str, small: KVCacheAdapter, large: KVCacheAdapter) -> Growth:
    """Measured in turns, so that a slow spell of the machine hits both."""
    call = OPERATIONS[operation][1]
    times = [(_cost_us(call, small), _cost_us(call, large)) for _ in range(_BATCHES)]
    return Growth(min(time for time, _ in times), min(time for _, time in times))


def _cost_us(call: _Operation, adapter: KVCacheAdapter) -> float:
    """CPU time of a call, on average over a few."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.thread_time_ns()
        for _ in range(_CALLS):
            call(adapter)
        return max(1, time.thread_time_ns() - start) / _CALLS / 1000
    finally:
        if was_enabled:
            gc.enable()


def _churned(adapter: type[KVCacheAdapter], num_blocks: int) -> KVCacheAdapter:
    """A pool with a history: half is held, the rest cached, a known prompt in the middle, none blank."""
    cache = make_adapter(adapter, num_blocks, min(adapter.block_sizes))
    chunks = cache.usable_blocks // (_CHUNK // 8 if num_blocks == _SMALL else _CHUNK) - 1
    size = _CHUNK // 8 if num_blocks == _SMALL else _CHUNK
    fillers = range(_FILLERS, _FILLERS + chunks)
    for number in fillers[: chunks // 2]:
        cache.admit(number, _prompt(cache, number, size - 2))
    cache.admit(_PROBE, _prompt(cache, _PROBE, 4))
    cache.admit(_LIVE, [_LIVE])
    for number in fillers[chunks // 2 :]:
        cache.admit(number, _prompt(cache, number, size - 2))
    rest = cache.num_free_blocks() - cache.max_overhead_blocks
    cache.admit(_REST, [_REST] * (rest * cache.block_size))
    cache.release(_REST)
    for number in fillers[: chunks // 4]:
        cache.release(number)
    cache.release(_PROBE)
    for number in fillers[chunks // 4 : chunks // 2]:
        cache.release(number)
    return cache

"""What the ways of replaying have in common."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from pagedkv.errors import ConfigError
from pagedkv.traces import Trace, TraceRequest
from pagedkv.traces.trace import DEFAULT_BLOCK_SIZE

__all__ = ["Progress", "ReplayResult", "affordable", "block_size_for", "pool_size", "ratio", "tracked"]

Progress = Callable[[int, int], object]
"""Called now and then with (requests done, requests in all)."""

_PROGRESS_STEP = 64
_MAX_BLOCKS = 2**31 - 1
_MAX_UNASKED_BLOCKS = 2**24  # a gigabyte, at about 64 bytes a block; more has to be asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Numbers of one replay."""

    def as_dict(self) -> dict[str, int | float]:
        """The numbers by name, in the order in which they are declared, then ratios of them."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | self.ratios()

    def ratios(self) -> dict[str, float]:
        """Ratios of the numbers, 0.0 where there is nothing to divide by."""
        return {}


def ratio(part: int, whole: int) -> float:
    """`part / whole`, or 0.0 of nothing."""
    return part / whole if whole else 0.0


def block_size_for(trace: Trace, block_size: int | None) -> int:
    """The chosen block size, or else that of the trace's ids, or else 16.

    Raises:
        ConfigError: the chosen one is no positive int.
    """
    if block_size is None:
        return trace.block_size or DEFAULT_BLOCK_SIZE
    return _positive("block_size", block_size)


def pool_size(num_blocks: int | None, num_needed: int) -> int:
    """The chosen number of blocks, or else as many as are ever needed.

    Raises:
        ConfigError: the chosen one is no positive int, or too many are needed.
    """
    if num_blocks is not None:
        return _positive("num_blocks", num_blocks)
    return affordable(num_needed, "num_blocks is inf, and this trace", "give the pool a size")


def affordable(num_needed: int, asked: str, advice: str) -> int:
    """The size of a pool whose size nobody chose: what is needed, and at least one block.

    Args:
        num_needed: blocks that are needed.
        asked: what makes them necessary, for the message.
        advice: what to do if they are too many, likewise.

    Raises:
        ConfigError: too many are needed.
    """
    if num_needed > _MAX_UNASKED_BLOCKS:
        raise ConfigError(
            f"{asked} then needs {num_needed} blocks, more than {_MAX_UNASKED_BLOCKS}: {advice}"
        )
    return max(1, num_needed)


def _positive(name: str, value: int) -> int:
    if type(value) is int and 0 < value <= _MAX_BLOCKS:
        return value
    raise ConfigError(f"{name} is {value!r}; it must be an int from 1 to {_MAX_BLOCKS}")


def tracked(requests: Sequence[TraceRequest], progress: Progress | None) -> Iterator[TraceRequest]:
    """Yield the requests, and report how far the loop over them is."""
    if progress is None:
        yield from requests
        return
    for done, request in enumerate(requests):
        if done % _PROGRESS_STEP == 0:
            progress(done, len(requests))
        yield request
    progress(len(requests), len(requests))

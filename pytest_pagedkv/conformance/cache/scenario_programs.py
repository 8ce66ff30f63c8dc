"""Programs that every cache must survive, each a situation in which some cache has failed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pytest_pagedkv.adapter import Feature

__all__ = ["SCENARIOS", "Scenario"]

_Calls = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A program for any block size.

    Attributes:
        features: what the cache needs to have.
        calls: the program, given the block size; pools have `num_blocks` blocks besides the reserved ones.
        num_blocks: size of the pool.
    """

    features: Feature
    calls: Callable[[int], _Calls]
    num_blocks: int = 8


def _run(token: int, length: int) -> tuple[int, ...]:
    return (token,) * length


_P, _F, _T = Feature.PREFIX_CACHE, Feature.FORK, Feature.TRUNCATE

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "a prompt of one token": Scenario(Feature.NONE, lambda _: (("admit", 0, (1,)), ("release", 0))),
        "prompts on and around a block boundary": Scenario(
            Feature.NONE,
            lambda b: tuple(("admit", i, _run(i, max(1, 2 * b + i - 1))) for i in range(3)),
            num_blocks=12,
        ),
        "appends across block boundaries": Scenario(
            Feature.NONE, lambda b: (("admit", 0, (1,)), *(("append", 0, (2,)) for _ in range(3 * b)))
        ),
        "a request as large as the pool": Scenario(
            Feature.NONE,
            lambda b: (("admit", 0, _run(1, 8 * b)), ("release", 0), ("admit", 1, _run(2, 8 * b))),
        ),
        "a request larger than the pool, then one that fits": Scenario(
            Feature.NONE, lambda b: (("admit", 0, _run(1, 8 * b + 1)), ("admit", 0, (1,)))
        ),
        "no room to append": Scenario(
            Feature.NONE,
            lambda b: (("admit", 0, _run(1, 8 * b)), ("append", 0, (1,)), ("release", 0), ("admit", 1, (1,))),
        ),
        "an id used again": Scenario(
            Feature.NONE,
            lambda b: (
                ("admit", 0, _run(1, 3 * b)),
                ("release", 0),
                ("admit", 0, _run(2, b)),
                ("append", 0, (3,)),
            ),
        ),
        "cancelled between admit and append": Scenario(
            Feature.NONE,
            lambda b: tuple(c for i in range(20) for c in (("admit", i, _run(i, 2 * b)), ("release", i))),
        ),
        "an unknown id": Scenario(
            Feature.NONE, lambda _: (("admit", 0, (1,)), ("append", 1, (1,)), ("release", 1), ("release", 0))
        ),
        "a double release": Scenario(
            Feature.NONE, lambda b: (("admit", 0, _run(1, 2 * b)), ("release", 0), ("release", 0))
        ),
        "admitted twice": Scenario(
            Feature.NONE,
            lambda b: (("admit", 0, _run(1, 2 * b)), ("admit", 0, _run(2, b)), ("append", 0, (1,))),
        ),
        "a released prompt comes back": Scenario(
            _P, lambda b: (("admit", 0, _run(1, 3 * b)), ("release", 0), ("admit", 1, _run(1, 3 * b)))
        ),
        "a released prompt comes back after others": Scenario(
            _P,
            lambda b: (
                ("admit", 0, _run(1, 3 * b)),
                ("release", 0),
                ("admit", 1, _run(2, 4 * b)),
                ("admit", 2, _run(1, 3 * b)),
            ),
        ),
        "the tail of a prompt is evicted": Scenario(
            _P,
            lambda b: (
                ("admit", 0, _run(1, 4 * b)),
                ("release", 0),
                ("admit", 1, _run(2, 6 * b)),
                ("release", 1),
                ("admit", 2, _run(1, 4 * b)),
            ),
        ),
        "twins": Scenario(
            _P,
            lambda b: (
                ("admit", 0, _run(1, 2 * b + 1)),
                ("admit", 1, _run(1, 2 * b + 1)),
                ("append", 0, (2,)),
                ("append", 1, (3,)),
                ("release", 0),
                ("release", 1),
                ("admit", 2, _run(1, 2 * b + 1)),
            ),
        ),
        "a hit while its own blocks are about to be evicted": Scenario(
            _P,
            lambda b: (
                ("admit", 0, _run(1, 3 * b)),
                ("admit", 1, _run(2, 4 * b)),
                ("release", 0),
                ("admit", 2, (*_run(1, 3 * b), *_run(3, 2 * b))),
            ),
        ),
        "the same tokens behind other prefixes": Scenario(
            _P,
            lambda b: (
                ("admit", 0, (*_run(1, b), *_run(5, b))),
                ("release", 0),
                ("admit", 1, (*_run(2, b), *_run(5, b), 1)),
            ),
        ),
        "output is found again": Scenario(
            _P,
            lambda b: (
                ("admit", 0, _run(1, b + 1)),
                *(("append", 0, (2,)) for _ in range(2 * b)),
                ("release", 0),
                ("admit", 1, (*_run(1, b + 1), *_run(2, 2 * b))),
            ),
        ),
        "equal tokens in two namespaces": Scenario(
            _P | Feature.NAMESPACE,
            lambda b: (
                ("admit", 0, _run(1, 3 * b)),
                ("admit", 1, _run(1, 3 * b), "other"),
                ("release", 1),
                ("release", 0),
                ("admit", 2, _run(1, 2 * b), "other"),
            ),
        ),
        "a reset, with and without live sequences": Scenario(
            _P | Feature.RESET,
            lambda b: (
                ("admit", 0, _run(1, 2 * b)),
                ("admit", 1, _run(2, 2 * b)),
                ("release", 1),
                ("reset_prefix_cache",),
                ("admit", 2, _run(2, 2 * b)),
                ("append", 0, _run(1, b)),
                ("admit", 3, _run(1, 2 * b)),
            ),
        ),
        "a fork writes first, then its parent": Scenario(
            _F,
            lambda b: (
                ("admit", 0, _run(1, b + 1)),
                ("fork", 0, 1),
                ("append", 1, _run(2, b)),
                ("append", 0, _run(3, b)),
                ("release", 0),
                ("append", 1, (2,)),
            ),
        ),
        "a fork of a fork": Scenario(
            _F,
            lambda b: (
                ("admit", 0, _run(1, b + 1)),
                ("fork", 0, 1),
                ("fork", 1, 2),
                ("append", 0, (2,)),
                ("append", 1, (3,)),
                ("append", 2, (4,)),
            ),
        ),
        "a fork onto a live sequence": Scenario(
            _F, lambda _: (("admit", 0, (1,)), ("admit", 1, (2,)), ("fork", 0, 1), ("append", 1, (1,)))
        ),
        "rejected drafts, then other tokens": Scenario(
            _T,
            lambda b: (
                ("admit", 0, _run(1, 2 * b)),
                ("append", 0, _run(2, 2 * b)),
                ("truncate", 0, 2 * b + 1),
                ("append", 0, _run(3, 2 * b)),
            ),
        ),
        "a cut prompt is not found by its old tokens": Scenario(
            _T | _P,
            lambda b: (
                ("admit", 0, _run(1, 3 * b)),
                ("truncate", 0, 1),
                ("append", 0, _run(2, 3 * b)),
                ("admit", 1, _run(1, 3 * b)),
            ),
        ),
        "swapped out, in again, and released outside": Scenario(
            Feature.SWAP,
            lambda b: (
                ("admit", 0, _run(1, 2 * b + 1)),
                ("swap_out", 0),
                ("admit", 1, _run(2, 8 * b)),
                ("swap_in", 0),
                ("release", 1),
                ("swap_in", 0),
                ("append", 0, (1,)),
                ("swap_out", 0),
                ("release", 0),
            ),
        ),
    }
)
"""Programs by what they are about."""

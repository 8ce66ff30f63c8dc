"""Calls to a cache, and programs of them as source code that can be pasted into a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_pagedkv.adapter import KVCacheAdapter

__all__ = ["Call", "Program", "replay_test"]


@dataclass(slots=True, eq=False)
class Call:
    """One call.

    Attributes:
        name: the adapter's method.
        arguments: positional arguments; token ids as a tuple.
        outcome: name of the documented error that it raised; "" if it returned.
        cached: tokens that it said were cached.
        num_free: blocks that the cache said were free afterwards.
    """

    name: str
    arguments: tuple[Any, ...]
    outcome: str = ""
    cached: int = 0
    num_free: int = 0

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_written, self.arguments))})"


def _written(argument: object) -> str:
    if not isinstance(argument, tuple):
        return repr(argument)
    if len(argument) > 8 and len(set(argument)) == 1:
        return f"[{argument[0]}] * {len(argument)}"
    return repr(list(argument))


@dataclass(frozen=True, slots=True)
class Program:
    """Calls on a pool.

    Attributes:
        num_blocks: size of the pool.
        block_size: tokens in a block.
        calls: (name, argument, ...) of each; token ids as tuples.
    """

    num_blocks: int
    block_size: int
    calls: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, adapter: KVCacheAdapter, calls: Sequence[Call]) -> "Program":
        """The program that was run on a cache."""
        return cls(adapter.num_blocks, adapter.block_size, tuple((c.name, *c.arguments) for c in calls))


def replay_test(invariant: str, adapter: KVCacheAdapter, calls: Sequence[Call]) -> str:
    """A test function that makes these calls, ready to paste.

    Args:
        invariant: what the last of them breaks; it names the test.
        adapter: the cache that they were made on.
        calls: the program.
    """
    cls = type(adapter)
    errors = sorted({call.outcome for call in calls if call.outcome})
    lines = ["import pytest", ""] if errors else []
    lines += ["from pytest_pagedkv.adapter import OutOfBlocks"] if "OutOfBlocks" in errors else []
    lines += ["from pytest_pagedkv.conformance import CheckedCache"]
    lines += [f"from {cls.__module__} import {cls.__qualname__.partition('.')[0]}", "", ""]
    lines += [f"def test_{invariant.replace('-', '_')}():"]
    lines += [f"    cache = CheckedCache({cls.__qualname__}({adapter.num_blocks}, {adapter.block_size}))"]
    for call in calls:
        if call.outcome:
            lines.append(f"    with pytest.raises({call.outcome}):")
        lines.append(f"    {'    ' if call.outcome else ''}cache.{call}")
    if not (calls and calls[-1].name == "close"):
        lines.append("    cache.close()")
    return "\n".join(lines)

"""Makes a failing program short: fewer calls, fewer and simpler tokens, a smaller pool.

Done on the calls, not on the choices that a search made them from: a candidate costs as long as its calls
take, and a program from a soak test or from a user's log shrinks like one from a search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.known import is_known
from pytest_pagedkv.conformance.cache.running import run
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["shrink"]

_MOST_RUNS = 4000


def shrink(
    adapter: type[KVCacheAdapter], violation: InvariantViolation, watch: Watch | None = None
) -> InvariantViolation:
    """The same violation by the shortest program that was found.

    Args:
        adapter: the class under test.
        violation: with the program that broke it; comes back if that does not do it again.
        watch: the time limit for a call; None sets none.
    """
    if violation.program is None or isinstance(violation, Hung):
        return violation
    program: Program = violation.program
    runs = 0
    shorter = True
    while shorter and runs < _MOST_RUNS:
        shorter = False
        for candidate in _simpler(program, adapter.block_sizes):
            runs += 1
            found = run(adapter, candidate, watch)
            if found is not None and _is_same(found, violation) and not is_known(adapter, found):
                program, violation, shorter = candidate, found, True
                break
            if runs >= _MOST_RUNS:
                break
    return violation


def _is_same(found: InvariantViolation, violation: InvariantViolation) -> bool:
    """They show one defect: the same invariant and, for an error, the same one from the same method."""
    if found.invariant != violation.invariant or isinstance(found, Hung) or found.program is None:
        return False
    return found.invariant != "documented-errors" or (
        found.operation == violation.operation and type(found.__cause__) is type(violation.__cause__)
    )


def _simpler(program: Program, block_sizes: Sequence[int]) -> Iterator[Program]:
    """Programs that are a step simpler, the largest steps first."""
    for calls in _without_calls(program.calls):
        yield replace(program, calls=calls)
    for size in sorted(size for size in block_sizes if size < program.block_size):
        yield replace(program, block_size=size)
    for num_blocks in dict.fromkeys((program.num_blocks // 2, program.num_blocks - 1)):
        if num_blocks > 0:
            yield replace(program, num_blocks=num_blocks)
    for position, call in enumerate(program.calls):
        for simpler in _simpler_calls(call, program.block_size):
            calls = (*program.calls[:position], simpler, *program.calls[position + 1 :])
            yield replace(program, calls=calls)
    renamed = tuple(_renamed(program.calls))
    if renamed != program.calls:
        yield replace(program, calls=renamed)


def _without_calls(calls: tuple[tuple[Any, ...], ...]) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """Leave out half of the calls, a quarter, ..., one."""
    size = len(calls) // 2
    while size:
        for start in range(len(calls) - size, -1, -size):
            yield calls[:start] + calls[start + size :]
        size //= 2


def _simpler_calls(call: tuple[Any, ...], block_size: int) -> Iterator[tuple[Any, ...]]:
    """A call with fewer or smaller tokens, or without a namespace."""
    name, *arguments = call
    if name not in ("admit", "append"):
        return
    seq_id, tokens, *namespace = arguments
    if namespace:
        yield name, seq_id, tokens
    length = len(tokens)
    for kept in dict.fromkeys((1, block_size, block_size + 1, length // 2, length - block_size, length - 1)):
        if 0 < kept < length:
            yield name, seq_id, tokens[:kept], *namespace
    if length > 1:
        yield name, seq_id, tokens[1:], *namespace
    if any(tokens):
        yield name, seq_id, (0,) * length, *namespace
    for position in [position for position, token in enumerate(tokens) if token]:
        yield name, seq_id, (*tokens[:position], 0, *tokens[position + 1 :]), *namespace


def _renamed(calls: tuple[tuple[Any, ...], ...]) -> Iterator[tuple[Any, ...]]:
    """The calls with sequence ids 0, 1, ... in the order in which they come."""
    names: dict[int, int] = {}
    for name, *arguments in calls:
        num_ids = _NUM_IDS.get(name, 0)
        ids = [names.setdefault(seq_id, len(names)) for seq_id in arguments[:num_ids]]
        yield name, *ids, *arguments[num_ids:]


_NUM_IDS = {"admit": 1, "append": 1, "fork": 2, "truncate": 1, "release": 1, "swap_out": 1, "swap_in": 1}

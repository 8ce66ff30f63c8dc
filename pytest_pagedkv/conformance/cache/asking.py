"""Asks an adapter, and makes sure that what comes back can be used."""

import time
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

from pytest_pagedkv.adapter import KVCacheAdapter, Placement
from pytest_pagedkv.conformance.cache.calls import Call
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Hang, Watch

__all__ = ["Asker"]

Errors = tuple[type[Exception], ...]


class Asker:
    """Calls the adapter's methods.

    Args:
        adapter: the cache.
        watch: the time limit for a call.
        history: how many calls to keep; None keeps all.

    Attributes:
        calls: what was called, oldest first.
        num_calls: how many calls there were; queries do not count.
        is_recording: calls are kept and counted.
    """

    def __init__(self, adapter: KVCacheAdapter, watch: Watch, history: int | None) -> None:
        self._adapter = adapter
        self._watch = watch
        self._history = history
        self.calls: list[Call] = []
        self.num_calls = 0
        self.is_recording = True

    def call(self, call: Call, errors: Errors = ()) -> Any:
        """Make a call and keep it. Errors other than the given ones are violations."""
        if self.is_recording:
            self._record(call)
        given = [list(argument) if isinstance(argument, tuple) else argument for argument in call.arguments]
        try:
            answer = self._run(call, given, errors)
        except errors as error:
            call.outcome = next(kind.__name__ for kind in errors if isinstance(error, kind))
            _check_unchanged(call, given)
            raise
        _check_unchanged(call, given)
        return answer

    def continued_on(self, adapter: KVCacheAdapter) -> "Asker":
        """One that has made the same calls, on another cache."""
        twin = Asker(adapter, self._watch, self._history)
        twin.calls, twin.num_calls = list(self.calls), self.num_calls
        return twin

    def _record(self, call: Call) -> None:
        self.calls.append(call)
        self.num_calls += 1
        if self._history is not None and len(self.calls) >= 2 * max(1, self._history):
            del self.calls[: -self._history]

    def placement(self, call: Call, errors: Errors = ()) -> Placement:
        """Make a call that answers with a placement."""
        answer = self.call(call, errors)
        try:
            cached, copies = index(answer.num_cached_tokens), [(index(s), index(d)) for s, d in answer.copies]
        except (AttributeError, TypeError, ValueError) as error:
            raise InvariantViolation(
                "well-formed", f"{call.name} returned {answer!r}; it must return a Placement"
            ) from error
        wild = [copy for copy in copies if not all(0 <= block < self._adapter.num_blocks for block in copy)]
        if wild:
            raise InvariantViolation(
                "well-formed",
                f"{call.name} reports the copy {wild[0]}; blocks are 0 to {self._adapter.num_blocks - 1}",
            )
        call.cached = cached
        return Placement(cached, copies)

    def table(self, seq_id: int) -> tuple[int, ...]:
        """A live sequence's table."""
        return self._as_blocks(seq_id, self._query("block_table", seq_id))

    def knows(self, seq_id: int) -> bool:
        """The cache has a table for this id."""
        try:
            self._query("block_table", seq_id, errors=(KeyError,))
        except KeyError:
            return False
        return True

    def num_free(self) -> int:
        """What the cache says is obtainable."""
        answer = self._query("num_free_blocks")
        try:
            return index(answer)
        except TypeError as error:
            raise InvariantViolation(
                "well-formed", f"num_free_blocks() returned {answer!r}, no int"
            ) from error

    def ref_counts(self) -> Mapping[int, int]:
        """What the cache says of references."""
        answer = self._query("ref_counts")
        if not isinstance(answer, Mapping):
            raise InvariantViolation(
                "well-formed", f"ref_counts() returned a {type(answer).__name__}; it must return a mapping"
            )
        return answer

    def _query(self, name: str, *arguments: int, errors: Errors = ()) -> Any:
        return self._run(Call(name, arguments), arguments, errors)

    def _run(self, call: Call, arguments: Sequence[Any], errors: Errors) -> Any:
        watch = self._watch
        watch.started = time.monotonic()
        try:
            return getattr(self._adapter, call.name)(*arguments)
        except errors:
            raise
        except Hang:
            raise Hung("well-formed", f"{call} did not return within {watch.limit_s:g} s") from None
        except NotImplementedError as error:
            raise InvariantViolation(
                "well-formed", f"{call} is not implemented, though the adapter's features promise it: {error}"
            ) from error
        except (Exception, SystemExit, GeneratorExit) as error:
            raise InvariantViolation(
                "documented-errors",
                f"{call} raised {type(error).__name__}: {error}; {_allowed(errors)}",
            ) from error
        finally:
            watch.started = 0.0

    def _as_blocks(self, seq_id: int, answer: Any) -> tuple[int, ...]:
        """A table as ints, in range."""
        try:
            blocks = tuple(map(index, answer))
        except TypeError as error:
            raise InvariantViolation(
                "well-formed", f"block_table({seq_id}) returned {answer!r}; it must be a sequence of ints"
            ) from error
        num_blocks = self._adapter.num_blocks
        wild = [block for block in blocks if not 0 <= block < num_blocks]
        if wild:
            raise InvariantViolation(
                "well-formed",
                f"block_table({seq_id}) names block {wild[0]}; blocks are 0 to {num_blocks - 1}: {blocks}",
            )
        return blocks


def _check_unchanged(call: Call, given: Sequence[Any]) -> None:
    """Lists that the cache was given are as they were."""
    for before, after in zip(call.arguments, given, strict=True):
        if isinstance(before, tuple) and list(before) != after:
            raise InvariantViolation("well-formed", f"{call.name} changed the token list that it was given")


def _allowed(errors: Errors) -> str:
    if not errors:
        return "the contract has no error here"
    return f"the contract has {' or '.join(kind.__name__ for kind in errors)} here"

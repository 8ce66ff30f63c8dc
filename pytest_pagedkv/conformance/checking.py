"""What the harnesses of schedulers and offload tiers share: limited calls, and programs to paste."""

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from pytest_pagedkv.adapter import Adapter
from pytest_pagedkv.conformance.searching import path_of
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Hang, Watch

__all__ = ["Checked", "operation"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="Checked")


def operation(method: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """A method of a harness that programs are made of: it is kept, and its violations are explained."""

    @wraps(method)
    def kept(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        told = [*map(_written, args), *(f"{name}={_written(value)}" for name, value in kwargs.items())]
        self.program.append(f"{method.__name__}({', '.join(told)})")
        try:
            return method(self, *args, **kwargs)
        except InvariantViolation as violation:
            self.explain(violation)
            raise

    return kept


def _written(value: object) -> str:
    """A value as source code; tokens that are all the same, short."""
    if isinstance(value, tuple) and len(value) > 4 and len(set(value)) == 1:
        return f"({value[0]!r},) * {len(value)}"
    return repr(value)


class Checked:
    """A component whose every call is verified.

    Args:
        adapter: the component's class.
        watch: the time limit for a call; None sets none.
        made_with: what it is made with, for the report.

    Attributes:
        invariants: name -> statement.
        program: the operations so far, as source code.
    """

    invariants: ClassVar[Mapping[str, str]]

    _hung: ClassVar[str] = "well-formed"  # the invariant that a call breaks which does not return
    _fixtures: ClassVar[str] = ""  # of the replay test, and the next arguments after the adapter

    def __init__(self, adapter: type[Adapter], watch: Watch | None, made_with: Mapping[str, object]) -> None:
        self.adapter = adapter
        self.program: list[str] = []
        self._watch = watch or Watch(float("inf"))
        self._made_with = ", ".join(f"{name}={value!r}" for name, value in made_with.items())

    def _make(self, *args: Any) -> Any:
        """Make the component."""
        try:
            return self._call(self.adapter, (), *args)
        except InvariantViolation as violation:
            self.explain(violation)
            raise

    def _call(
        self, method: Callable[P, T], errors: tuple[type[Exception], ...], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the adapter. Errors other than the given ones are violations, and so is a call that hangs."""
        name = getattr(method, "__name__", repr(method))
        self._watch.started = time.monotonic()
        try:
            return method(*args, **kwargs)
        except errors:
            raise
        except Hang:
            limit_s = self._watch.limit_s
            raise Hung(self._hung, f"{name} did not return within {limit_s:g} s", call=name) from None
        except (Exception, SystemExit, GeneratorExit) as error:
            raise InvariantViolation(
                "documented-errors",
                f"{name} raised {type(error).__name__}: {error}; allowed here: "
                f"{', '.join(kind.__name__ for kind in errors) or 'nothing'}",
                call=name,
            ) from error
        finally:
            self._watch.started = 0.0

    def _misuse(
        self, method: Callable[P, object], error: type[Exception], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Make a call that has to be refused."""
        try:
            self._call(method, (error,), *args, **kwargs)
        except error:
            return
        told = ", ".join(map(repr, args))
        raise InvariantViolation(
            "documented-errors", f"{method.__name__}({told}) is misuse; it must raise {error.__name__}"
        )

    def _state(self) -> str:
        """What the harness knows, as text."""
        return ""

    def explain(self, violation: InvariantViolation) -> None:
        """Add to a violation what is known here; once."""
        if violation.sections:
            return
        violation.adapter = violation.adapter or path_of(self.adapter)
        violation.call = violation.call or (self.program or [""])[-1]
        violation.sections = (
            ("must hold", self.invariants[violation.invariant]),
            ("state", self._state()),
            ("replay", self._replay(violation.invariant)),
        )

    def _replay(self, invariant: str) -> str:
        """A test function that runs the program, ready to paste."""
        cls, adapter = type(self), self.adapter
        name = cls.__name__.removeprefix("Checked").lower()
        arguments = ", ".join(filter(None, [adapter.__qualname__, self._fixtures, self._made_with]))
        lines = [
            f"from {cls.__module__} import {cls.__name__}",
            f"from {adapter.__module__} import {adapter.__qualname__.partition('.')[0]}",
            "",
            "",
            f"def test_{invariant.replace('-', '_')}({self._fixtures}):",
            f"    {name} = {cls.__name__}({arguments})",
            *(f"    {name}.{call}" for call in self.program),
        ]
        return "\n".join(lines)

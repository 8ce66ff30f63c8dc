"""What a suite raises when a component breaks its contract."""

from typing import Any

__all__ = ["Hung", "InvariantViolation"]


class InvariantViolation(AssertionError):
    """A component broke an invariant.

    Args:
        invariant: its name, such as "no-alias".
        detail: what was seen, in full sentences, with the numbers.
        adapter: the adapter's class, and what it was made with.
        call: the call after which it was seen.
        sections: (heading, text) pairs to print below: a picture of the state, the program that leads there.

    Attributes:
        invariant: its name.
        detail: what was seen.
        adapter: as given.
        call: as given.
        sections: as given.
        symptom: the invariant that was seen broken, before its cause was looked for.
        program: the calls that lead there, where the component is tested by programs of calls.
    """

    def __init__(
        self,
        invariant: str,
        detail: str,
        *,
        adapter: str = "",
        call: str = "",
        sections: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__()
        self.invariant, self.detail, self.adapter, self.call = invariant, detail, adapter, call
        self.sections = sections
        self.symptom = invariant
        self.program: Any = None

    @property
    def operation(self) -> str:
        """The method that was called last."""
        return self.call.partition("(")[0]

    def __str__(self) -> str:
        where = [f"adapter  {self.adapter}"] if self.adapter else []
        where += [f"call     {self.call}"] if self.call else []
        below = [f"{heading}\n{text}" for heading, text in self.sections if text]
        head = f"{self.invariant}: {self.detail}"
        return "\n\n".join(part for part in [head, "\n".join(where), *below] if part)


class Hung(InvariantViolation):
    """A call did not return in time. There is no use in shrinking the program by waiting again and again."""

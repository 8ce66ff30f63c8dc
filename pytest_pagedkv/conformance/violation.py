"""What a suite raises when a component breaks its contract."""

__all__ = ["InvariantViolation"]


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
        self.invariant, self.detail, self.adapter, self.call = invariant, detail, adapter, call
        head = f"{invariant}: {detail}"
        where = [f"adapter  {adapter}"] if adapter else []
        where += [f"call     {call}"] if call else []
        below = [f"{heading}\n{text}" for heading, text in sections if text]
        super().__init__("\n\n".join(part for part in [head, "\n".join(where), *below] if part))

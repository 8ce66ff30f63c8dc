"""Counts of what a search has reached, so that nobody has to believe that it reaches anything."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Reached"]


@dataclass(slots=True)
class Reached:
    """What a search did.

    Attributes:
        programs: programs run.
        operations: calls made.
        rules: how often each rule of the machine was run.
        scenarios: how often each situation came about.
    """

    programs: int = 0
    operations: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    scenarios: Counter[str] = field(default_factory=Counter)

    def as_record(self) -> dict[str, Any]:
        """As plain values, for a report that may cross processes."""
        return {
            "programs": self.programs,
            "operations": self.operations,
            "rules": dict(self.rules),
            "scenarios": dict(self.scenarios),
        }

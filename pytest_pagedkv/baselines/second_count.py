"""The counters of a benchmark against a second count of themselves, under another hash seed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SecondPass", "hash_seed"]


@dataclass(frozen=True, slots=True)
class SecondPass:
    """What the other process counted.

    Attributes:
        hash_seed: its PYTHONHASHSEED.
        counters: by benchmark, of those that passed there.
        problems: by benchmark, why one of the others has no counters.
    """

    hash_seed: str
    counters: Mapping[str, Mapping[str, int]]
    problems: Mapping[str, str]

    def disagreement(self, key: str, counters: Mapping[str, int]) -> tuple[str, ...]:
        """One line for each counter that this process counted differently."""
        if key not in self.counters:
            problem = self.problems.get(key, "was not collected")
            return (f"passed under {_seed(hash_seed())}, under {_seed(self.hash_seed)} it {problem}",)
        there = self.counters[key]
        return tuple(
            f"nondeterministic counter {name}: {_shown(counters.get(name))} under {_seed(hash_seed())}, "
            f"{_shown(there.get(name))} under {_seed(self.hash_seed)}"
            for name in sorted(counters.keys() | there.keys())
            if counters.get(name) != there.get(name)
        )


def hash_seed() -> str:
    """This process's PYTHONHASHSEED."""
    return os.environ.get("PYTHONHASHSEED") or "random"


def _seed(value: str) -> str:
    return f"PYTHONHASHSEED={value}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)

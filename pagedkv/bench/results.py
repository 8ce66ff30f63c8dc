"""What a run found, and the same as plain JSON.

The document is described in docs/bench.md. `VERSION` rises when a reader would misunderstand what is
written; names may be added without that.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from pagedkv.bench.cases import Case
from pagedkv.bench.floors import Floor, Limits, Work
from pagedkv.bench.machine import Machine

__all__ = ["OURS", "SCHEMA", "VERSION", "Ratio", "Row", "Run", "Timing"]

SCHEMA = "pagedkv.bench.kernels"
"""What the document says it is."""
VERSION = 1
"""Of the document."""
OURS = "ours"
"""The contestant that is measured against the others."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A contestant whose every result was right.

    Attributes:
        rounds_s: seconds of a call, round by round.
        error: the largest relative error of its results.
    """

    rounds_s: tuple[float, ...]
    error: float

    @property
    def best_s(self) -> float:
        """The quickest call."""
        return min(self.rounds_s)

    @property
    def median_s(self) -> float:
        """The middle one."""
        return statistics.median(self.rounds_s)

    def over(self, other: "Timing") -> "Ratio":
        """How many times as long it takes as another, which ran in the same rounds."""
        pairs = zip(self.rounds_s, other.rounds_s, strict=True)
        return Ratio(statistics.median(a / b for a, b in pairs), self.best_s / other.best_s)


class Ratio(NamedTuple):
    """How many times as long something takes as something else; both agree where nothing disturbs.

    Attributes:
        paired: the median of the ratios round by round: a spell in which the machine is slow is in both.
        best: of the quickest calls.
    """

    paired: float
    best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A shape and what was found.

    Attributes:
        case: the shape.
        work: what the kernel has to do.
        floor: the least time for that.
        timings: of the contestants that finished with right results, by name.
        skipped: contestants that did not run, and why.
        wrong: contestants whose result was wrong, or that failed, and how.
        reason: why nothing was measured; "" where something was.
    """

    case: Case
    work: Work
    floor: Floor
    timings: Mapping[str, Timing] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def ours(self) -> Timing | None:
        """Our time; None where there is none."""
        return self.timings.get(OURS)

    @property
    def floor_ratio(self) -> float | None:
        """The floor divided by our best time: 1 where nothing is left to gain."""
        return None if self.ours is None else self.floor.seconds / self.ours.best_s

    @property
    def ratios(self) -> dict[str, Ratio]:
        """How many times as long as each peer we take, by its name."""
        ours = self.ours
        peers = {} if ours is None else {k: v for k, v in self.timings.items() if k != OURS}
        return {} if ours is None else {name: ours.over(timing) for name, timing in peers.items()}

    def as_plain(self) -> dict[str, object]:
        """For JSON."""
        times = {
            name: {
                "best_us": each.best_s * 1e6,
                "median_us": each.median_s * 1e6,
                "rounds": len(each.rounds_s),
                "error": each.error,
            }
            for name, each in self.timings.items()
        }
        return {
            **asdict(self.case),
            "work": asdict(self.work),
            "floor": {"us": self.floor.seconds * 1e6, "bound": self.floor.bound},
            "floor_ratio": self.floor_ratio,
            "times": times,
            "ours_over": {name: each._asdict() for name, each in self.ratios.items()},
            "skipped": dict(self.skipped),
            "wrong": dict(self.wrong),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A whole run.

    Attributes:
        machine: where.
        limits: what was measured there.
        seconds: time that each shape had.
        rows: the shapes, as far as it came.
        planned: how many shapes there were to be.
        is_interrupted: somebody stopped it.
    """

    machine: Machine
    limits: Limits
    seconds: float
    rows: Sequence[Row]
    planned: int
    is_interrupted: bool = False

    @property
    def num_wrong(self) -> int:
        """Contestants that were wrong or failed."""
        return sum(len(row.wrong) for row in self.rows)

    def as_plain(self) -> dict[str, object]:
        """The document."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "machine": asdict(self.machine),
            "limits": asdict(self.limits),
            "seconds_per_case": self.seconds,
            "planned": self.planned,
            "interrupted": self.is_interrupted,
            "rows": [row.as_plain() for row in self.rows],
        }

"""A batch that shrinks while requests wait, seen in the lines that a server writes now and then."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["BatchWatch", "Collapse"]

COLLAPSE_RATIO = 0.5
"""Share of the moving average below which a batch, with requests waiting, counts as reduced."""
LEAST_BATCH = 4
"""Requests of the average below which nothing is said: 2 of 3 is no collapse."""
_AVERAGE_LINES = 32


@dataclass(slots=True)
class Collapse:
    """Of the lines folded by one call, those in which a batch had collapsed.

    Attributes:
        first: number of the line in which it counted as collapsed first, from 0; -1 if in none.
        worst: number of the line with the smallest share of the average; -1 if in none.
        ratio: that share.
    """

    first: int = -1
    worst: int = -1
    ratio: float = 1.0


class BatchWatch:
    """Follows one stream of lines with the number of requests that run and that wait.

    The average is a moving one and stands still while a batch is reduced: a collapse is measured against
    what ran before it.

    Args:
        least_lines: lines in a row after which a reduced batch counts as collapsed.

    Attributes:
        num_busy: lines with requests that run.
        num_collapsed: lines in which the batch had collapsed.
        num_full: lines in which the pool was full and requests waited.
        sum_running: requests that ran, summed over lines.
        sum_collapsed_usage: share of the pool in use, summed over the lines in which the batch had collapsed.
    """

    __slots__ = (
        "_average",
        "_least_lines",
        "_streak",
        "num_busy",
        "num_collapsed",
        "num_full",
        "sum_collapsed_usage",
        "sum_running",
    )

    def __init__(self, least_lines: int) -> None:
        self._least_lines = least_lines
        self._average = 0.0
        self._streak = 0
        self.num_busy = self.num_collapsed = self.num_full = self.sum_running = 0
        self.sum_collapsed_usage = 0.0

    def fold(self, lines: Iterable[tuple[int, int, float]], full: float) -> Collapse:
        """Fold lines: requests that run, requests that wait, usage of the pool; `full` is a usage, too."""
        found = Collapse()
        average, streak, seen = self._average, self._streak, self.num_busy
        num_full = total = 0
        for number, (running, waiting, usage) in enumerate(lines):
            if not running:
                continue
            seen += 1
            total += running
            if waiting:
                num_full += usage >= full
                if running < COLLAPSE_RATIO * average and average >= LEAST_BATCH:
                    streak += 1
                    if streak >= self._least_lines:
                        self._collapsed(found, number, running / average, usage)
                    continue
            streak = 0
            average += (running - average) / (min(_AVERAGE_LINES, seen))
        self._average, self._streak, self.num_busy = average, streak, seen
        self.num_full += num_full
        self.sum_running += total
        return found

    def _collapsed(self, found: Collapse, number: int, ratio: float, usage: float) -> None:
        self.num_collapsed += 1
        self.sum_collapsed_usage += usage
        if found.first < 0:
            found.first = number
        if ratio < found.ratio:
            found.worst, found.ratio = number, ratio

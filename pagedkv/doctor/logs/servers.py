"""What vLLM's and SGLang's lines have in common: requests that run and wait, and how full the pool is."""

from collections.abc import Iterable

from pagedkv.doctor.batch_watch import BatchWatch, Collapse
from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs.streams import Batch
from pagedkv.doctor.seen import Seen
from pagedkv.doctor.thresholds import LogThresholds
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity

__all__ = ["Load"]

_MOST_STREAMS = 64
_OTHERS = b"\0others"


class Load:
    """The load of all processes of a log, each followed by itself.

    Attributes:
        collapsed: lines with a collapsed batch; their value is by how much it is smaller than its average.
    """

    def __init__(self, thresholds: LogThresholds) -> None:
        self._thresholds = thresholds
        self._watches: dict[bytes, BatchWatch] = {}
        self.collapsed = Seen()

    def fold(self, chunk: Chunk, batch: Batch, lines: Iterable[tuple[int, int, float]]) -> None:
        """Fold the lines of one process: requests that run, requests that wait, usage."""
        found = self._watch_of(batch.writer).fold(lines, self._thresholds.full_ratio)
        self._note(chunk, batch, found)

    @property
    def num_busy(self) -> int:
        """Lines with requests that run."""
        return sum(each.num_busy for each in self._watches.values())

    @property
    def num_full(self) -> int:
        """Lines in which requests waited for a full pool."""
        return sum(each.num_full for each in self._watches.values())

    @property
    def num_collapsed(self) -> int:
        """Lines with a collapsed batch."""
        return sum(each.num_collapsed for each in self._watches.values())

    @property
    def mean_running(self) -> float:
        """Requests that run, on average over the busy lines."""
        return sum(each.sum_running for each in self._watches.values()) / max(1, self.num_busy)

    def collapse(self, full: tuple[Advice, ...], free: tuple[Advice, ...]) -> Finding | None:
        """A collapsed batch as a finding, with the advice for a pool that was full then, or was not."""
        limits = self._thresholds
        if not self.num_collapsed:
            return None
        share = self.num_collapsed / self.num_busy
        usage = sum(each.sum_collapsed_usage for each in self._watches.values()) / self.num_collapsed
        is_critical = share >= limits.collapsed_ratio and self.num_busy >= limits.least_lines
        return Finding(
            pitfall=Pitfall.BATCH_COLLAPSE,
            severity=Severity.CRITICAL if is_critical else Severity.WARNING,
            summary=f"the batch has collapsed in {share:.1%} of the busy lines while requests wait, at worst "
            f"to 1/{self.collapsed.worst:.1f} of its average; the pool is {usage:.0%} full then",
            evidence={
                "collapsed_lines": self.num_collapsed,
                "busy_lines": self.num_busy,
                "collapsed_ratio": share,
                "critical_collapsed_ratio": limits.collapsed_ratio,
                "average_over_batch": self.collapsed.worst,
                "usage_then": usage,
                "full_limit": limits.full_ratio,
            },
            advice=full if usage >= limits.full_ratio else free,
            sources=self.collapsed.sources,
        )

    def pressure(self) -> dict[str, float]:
        """Numbers about the pool, for the evidence of a finding."""
        busy = self.num_busy
        return {
            "busy_lines": busy,
            "mean_running": self.mean_running,
            "full_and_waiting_ratio": self.num_full / max(1, busy),
        }

    def _watch_of(self, writer: bytes) -> BatchWatch:
        if writer not in self._watches and len(self._watches) >= _MOST_STREAMS:
            writer = _OTHERS
        if writer not in self._watches:
            self._watches[writer] = BatchWatch(self._thresholds.collapsed_lines)
        return self._watches[writer]

    def _note(self, chunk: Chunk, batch: Batch, found: Collapse) -> None:
        if found.first < 0:
            return
        if not self.collapsed.count:
            self.collapsed.note(chunk.source_at, batch.position_of(found.first), 0.0)
        smaller = 1 / found.ratio
        if smaller > self.collapsed.worst:
            self.collapsed.note(chunk.source_at, batch.position_of(found.worst), smaller)

"""Results as tables and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from tests.measure.race import Sample
from tests.measure.rows import NOTHING, OURS, PEER_OFF, PEER_ON, Row

__all__ = ["Result", "comparison_table", "scaling_table"]

_PEERS = (PEER_ON, PEER_OFF)


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its times."""

    row: Row
    samples: Mapping[str, Sample]

    @property
    def net(self) -> dict[str, Sample]:
        """Times of the sides, less that of doing nothing where the row has it."""
        base = self.samples.get(NOTHING, Sample((0.0,)))
        return {name: sample.minus(base) for name, sample in self.samples.items() if name != NOTHING}

    def ratios(self, peer: str) -> tuple[float | None, float | None]:
        """How many times longer the peer takes than ours: bests, and paired; None with nothing to compare."""
        times = self.net
        if peer not in times:
            return None, None
        return times[peer].best_ratio(times[OURS]), times[peer].paired_ratio(times[OURS])

    @property
    def worst_ratio(self) -> float | None:
        """The ratio of bests to the better column of the peer."""
        ratios = [self.ratios(peer)[0] for peer in _PEERS]
        return min((ratio for ratio in ratios if ratio is not None), default=None)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing to compare with."""
        met = []
        if self.row.target_us is not None:
            met.append(self.net[OURS].best_us <= self.row.target_us)
        if self.row.target_ratio is not None and self.worst_ratio is not None:
            met.append(self.worst_ratio >= self.row.target_ratio)
        return all(met) if met else None

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return {
            "name": self.row.name,
            "times": {
                name: {"best_us": sample.best_us, "median_us": sample.median_us}
                for name, sample in self.net.items()
            },
            "ratios": {
                peer: dict(zip(("best", "paired"), self.ratios(peer), strict=True))
                for peer in _PEERS
                if peer in self.samples
            },
            "target_ratio": self.row.target_ratio,
            "target_us": self.row.target_us,
            "target_met": self.is_met,
            "note": self.row.note,
        }


def comparison_table(results: list[Result]) -> Table:
    """Ours beside vLLM: best time of one operation, in microseconds.

    Each ratio stands twice: that of the best rounds, and the median of the ratios round by round, which a
    machine with slow spells spoils less. The aim is met if the first, to the better column of vLLM, is at
    least that.
    """
    table = Table(
        title="CPU microseconds for one operation, best round; ratio of bests / median ratio of rounds"
    )
    table.add_column("measure", min_width=24)
    for column in ("ours", "vLLM, caching", "ratio", "vLLM, no caching", "ratio", "aim", "met"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        cells = [result.row.name, _time(result.net[OURS])]
        for peer in _PEERS:
            cells += [_time(result.net.get(peer)), _times(*result.ratios(peer))]
        cells += [_target(result.row), {True: "yes", False: "NO", None: ""}[result.is_met]]
        table.add_row(*cells)
    return table


def scaling_table(results: list[Result]) -> Table:
    """Ours at several pool sizes."""
    table = Table(title="Ours by pool size: CPU microseconds for one operation, best round")
    table.add_column("measure", min_width=24)
    sizes = list(results[0].samples)
    for column in (*sizes, *(f"{size} / {sizes[0]}" for size in sizes[1:])):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        best = [result.samples[size].best_us for size in sizes]
        ratios = [f"{time / best[0]:.2f}" for time in best[1:]]
        table.add_row(result.row.name, *(f"{time:.3g}" for time in best), *ratios)
    return table


def _time(sample: Sample | None) -> str:
    if sample is None:
        return ""
    return f"{sample.best_us:,.0f}" if sample.best_us >= 100 else f"{sample.best_us:.3g}"


def _times(best: float | None, paired: float | None) -> str:
    return "" if best is None or paired is None else f"{best:.1f}x / {paired:.1f}x"


def _target(row: Row) -> str:
    ratio = [f"{row.target_ratio:g}x"] if row.target_ratio is not None else []
    limit = [f"<= {row.target_us:g} us"] if row.target_us is not None else []
    return ", ".join(ratio + limit)

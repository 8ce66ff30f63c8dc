"""Numbers as people read them."""

from collections import Counter
from collections.abc import Iterator

from pagedkv.bench.results import Ratio, Run
from pagedkv.report.numbers import duration, percent, round_duration, significant

__all__ = [
    "bandwidth",
    "duration",
    "percent",
    "rate",
    "ratio",
    "ratios",
    "reasons",
    "round_duration",
    "significant",
]


def ratio(value: float) -> str:
    """Such as "1.27"."""
    return f"{value:.2f}" if value < 99.995 else f"{value:.0f}"


def ratios(found: Ratio) -> str:
    """Both, such as "1.27 1.25"."""
    return f"{ratio(found.paired)} {ratio(found.best)}"


def bandwidth(bytes_per_s: float) -> str:
    """Such as "4.3 TB/s"."""
    return f"{_scaled(bytes_per_s)}B/s"


def rate(flops_per_s: float) -> str:
    """Such as "790 TFLOP/s"."""
    return f"{_scaled(flops_per_s)}FLOP/s"


def reasons(run: Run) -> Iterator[str]:
    """Peers that did not run, why, and on how many shapes."""
    found = Counter((name, reason) for row in run.rows for name, reason in row.skipped.items())
    for (name, reason), number in found.items():
        yield f"{name} on {number} shape{'s' * (number != 1)}: {reason}"


def _scaled(value: float) -> str:
    size, prefix = next((each for each in ((1e12, "T"), (1e9, "G")) if value >= each[0]), (1e6, "M"))
    return f"{significant(value / size)} {prefix}"

"""Numbers as people read them."""

import math
from collections import Counter
from collections.abc import Iterator

from pagedkv.bench.results import Ratio, Run

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

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def significant(value: float) -> str:
    """Three digits, more before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:.{max(0, decimals)}f}"


def duration(seconds: float, micro: str = "u") -> str:
    """Such as "652 us"."""
    size, unit = next((each for each in _TIMES if seconds >= each[0] * 0.9995), _TIMES[-1])
    return f"{significant(seconds / size)} {unit.replace('u', micro)}"


def round_duration(seconds: float) -> str:
    """One that has a digit or two, such as "50 µs"."""
    number, unit = duration(seconds, "\N{MICRO SIGN}").split()
    return f"{float(number):g}\N{NO-BREAK SPACE}{unit}"


def percent(share: float) -> str:
    """Such as "93%"."""
    return f"{share * 100:.0f}%" if share >= 0.0995 else f"{share * 100:.1f}%"


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

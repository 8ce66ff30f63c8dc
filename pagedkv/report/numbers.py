"""Numbers as people read them."""

import math

__all__ = ["byte_count", "count", "duration", "percent", "round_duration", "significant"]

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SHORT = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


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
    if not share:
        return "0%"
    return f"{share * 100:.0f}%" if share >= 0.0995 else f"{share * 100:.1f}%"


def byte_count(number: float) -> str:
    """Such as "1.50 GiB"."""
    size, unit = next((each for each in _SIZES if number >= each[0] * 0.9995), (1, "B"))
    return f"{significant(number / size)} {unit}"


def count(number: float) -> str:
    """Such as "12.5k"; up to 9999 as it is."""
    if number < 10_000:
        return f"{number:g}" if number == int(number) else significant(number)
    size, unit = next(each for each in _SHORT if number >= each[0] * 0.9995)
    return f"{float(significant(number / size)):g}{unit}"

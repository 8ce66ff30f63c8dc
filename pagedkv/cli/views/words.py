"""Numbers, times and bars as people read them."""

from collections.abc import Mapping, Sequence

from rich.text import Text

__all__ = ["STATES", "bar", "bytes_text", "count", "duration", "legend", "percent", "spark"]

STATES = {
    "in_use": ("in use", "cyan"),
    "shared": ("shared", "magenta"),
    "paging_in": ("paging in", "green"),
    "deferred": ("deferred", "red"),
    "cached_idle": ("cached, idle", "yellow"),
    "free": ("free", "bright_black"),
}
"""States of blocks in the order in which a bar has them: how they are called, and their colour."""

_FULL, _EMPTY = "▇", "─"
_SPARKS = "▁▂▃▄▅▆▇█"
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count(value: float | None, digits: int = 0) -> str:
    """A number with its thousands apart; a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def percent(ratio: float | None) -> str:
    """A share in per cent; a dash for none."""
    return "-" if ratio is None else f"{ratio:.1%}"


def duration(seconds: float | None) -> str:
    """A time with three digits that count, in the unit that suits it; a dash for none."""
    if seconds is None:
        return "-"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0 s" if not seconds else f"{seconds * 1e6:.2g} µs"


def bytes_text(size: float | None) -> str:
    """A number of bytes in the unit that suits it; a dash for none."""
    if size is None:
        return "-"
    for unit, name in _BYTES:
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def bar(parts: Sequence[tuple[float, str]], width: int) -> Text:
    """A bar of parts, each with its colour; what is there at all shows.

    Args:
        parts: sizes and styles.
        width: in characters.
    """
    total = sum(size for size, _ in parts) or 1.0
    text = Text()
    for cells, (_, style) in zip(_cells([size for size, _ in parts], total, width), parts, strict=True):
        text.append((_EMPTY if style == STATES["free"][1] else _FULL) * cells, style)
    return text


def legend(counts: Mapping[str, int]) -> Text:
    """The states of blocks with their numbers and shares; those that do not occur are left out."""
    total = sum(counts.values()) or 1
    text = Text()
    for name, (label, style) in STATES.items():
        if number := counts.get(name, 0):
            text.append("■ ", style)
            text.append(f"{label} ")
            text.append(f"{number:,}", "bold")
            text.append(f" {number / total:.1%}   ", "dim")
    return text


def spark(values: Sequence[float], width: int) -> str:
    """The last values as little columns, the highest of them being full."""
    last = list(values)[-width:]
    top = max(last, default=0.0) or 1.0
    return "".join(_SPARKS[min(7, int(max(0.0, each) / top * 7.999))] for each in last).ljust(width)


def _cells(sizes: Sequence[float], total: float, width: int) -> list[int]:
    """How many characters each part gets: one at least if it is not empty, and all together the width."""
    cells = [max(1, round(size / total * width)) if size else 0 for size in sizes]
    while sum(cells) > width and max(cells) > 1:
        cells[cells.index(max(cells))] -= 1
    while 0 < sum(cells) < width:
        cells[cells.index(max(cells))] += 1
    return cells

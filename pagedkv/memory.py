"""How much memory of the host can be had."""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_host_memory"]

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_FILE_PAGES = ("inactive_file", "active_file")
"""What of a group's memory the kernel takes back when somebody needs it."""


def available_host_memory() -> int | None:
    """Bytes that can be had now, without swapping and within the limits of this container.

    Returns:
        The number; None if nobody knows.
    """
    available = _sizes(_MEMINFO, 1024).get("MemAvailable:")
    found = [left for limit in _limits() if (left := _left(*limit)) is not None]
    return min([*found, *([] if available is None else [available])], default=None)


def _limits() -> Iterator[tuple[Path, Path, Path, str]]:
    """Of each group that this process is in: its limit, its usage, its statistics, and the prefix of these.

    A container sees its own group as the root, and may be told of it by another name.
    """
    try:
        lines = _OWN_GROUPS.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            root, limit, usage, prefix = _GROUPS, "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):  # version 1
            root, limit, usage = _GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            prefix = "total_"
        else:
            continue
        own = root / path.strip("/")
        for folder in dict.fromkeys((own, *own.parents)):
            if folder == root or root in folder.parents:
                yield folder / limit, folder / usage, folder / "memory.stat", prefix


def _left(limit: Path, usage: Path, statistics: Path, prefix: str) -> int | None:
    """What is left of a limit; None if there is none."""
    try:
        most, used = int(limit.read_text("ascii")), int(usage.read_text("ascii"))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None
    sizes = _sizes(statistics, 1)
    return max(0, most - used + sum(sizes.get(prefix + name, 0) for name in _FILE_PAGES))


def _sizes(path: Path, unit: int) -> dict[str, int]:
    """A file's lines of a name and a number; nothing if there is no such file."""
    try:
        rows = [line.split() for line in path.read_text("ascii").splitlines()]
        return {row[0]: int(row[1]) * unit for row in rows if len(row) > 1}
    except (OSError, ValueError):
        return {}

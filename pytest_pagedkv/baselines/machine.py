"""What the operating system says about processor and GPU, as strings; "unknown" where it says nothing."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["UNKNOWN", "cpu_name", "gpu", "processor"]

UNKNOWN = "unknown"

_CPUINFO = {  # x86 and then ARM; what ARM calls revision changes with a stepping
    "cpu_vendor": ("vendor_id", "CPU implementer"),
    "cpu_family": ("cpu family", "CPU architecture"),
    "cpu_model": ("model", "CPU part"),
    "cpu_stepping": ("stepping", "CPU revision"),
}
_CACHE_LETTERS = {"Data": "d", "Instruction": "i"}
_GPU_QUERY = {
    "gpu": "name",
    "gpu_memory_mib": "memory.total",
    "compute_capability": "compute_cap",
    "driver": "driver_version",
    "clock_sm_max_mhz": "clocks.max.sm",
    "clock_memory_max_mhz": "clocks.max.mem",
    "ecc": "ecc.mode.current",
    "mig": "mig.mode.current",
    "power_limit_w": "power.limit",
}
_TIMEOUT_S = 20


def processor(root: Path = Path("/")) -> dict[str, str]:
    """Vendor, family, model, stepping, caches, and how many processors this process may use.

    Args:
        root: of the file system that has /proc and /sys.
    """
    info = _cpuinfo(root)
    found = {field: _first(info, names) for field, names in _CPUINFO.items()}
    return found | {"cpu_caches": _caches(root), "cpu_count": str(_num_cpus())}


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's name in shops; a virtual machine may well hide it."""
    return _first(_cpuinfo(root), ("model name",))


def gpu() -> dict[str, str]:
    """What nvidia-smi says of the first GPU that this process may use."""
    command = shutil.which("nvidia-smi")
    answer = "" if command is None else _answer(command)
    values = [value.strip() for value in answer.partition("\n")[0].split(",")]
    if len(values) != len(_GPU_QUERY):
        return dict.fromkeys(_GPU_QUERY, UNKNOWN)
    return {field: _known(value) for field, value in zip(_GPU_QUERY, values, strict=True)}


def _answer(command: str) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
    query = [f"--query-gpu={','.join(_GPU_QUERY.values())}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(  # noqa: S603 - the vendor's tool, found on the path
            [command, f"--id={visible}", *query],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _cpuinfo(root: Path) -> dict[str, str]:
    """The lines of the first processor."""
    first = _read(root / "proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _caches(root: Path) -> str:
    folders = (root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")
    return ", ".join(sorted(filter(None, map(_cache, folders)))) or UNKNOWN


def _cache(folder: Path) -> str:
    """One cache, such as "L1d 32K"."""
    level, kind, size = (_read(folder / name).strip() for name in ("level", "type", "size"))
    return f"L{level}{_CACHE_LETTERS.get(kind, '')} {size}" if level and size else ""


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0


def _read(path: Path) -> str:
    """Text, of which a sandbox may have none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    found: Iterator[str] = (values[name] for name in names if values.get(name))
    return next(found, UNKNOWN)


def _known(value: str) -> str:
    """A driver has several ways to say that it has no answer."""
    return UNKNOWN if not value or re.fullmatch(r"\[.*\]|N/?A", value) else value

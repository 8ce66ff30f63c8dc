"""The environment that timings belong to: what has to be equal for two of them to be compared."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from pytest_pagedkv.baselines.machine import UNKNOWN, cpu_name, gpu, processor

__all__ = ["REFERENCE_VERSION", "Fingerprint", "fingerprint", "mismatches"]

REFERENCE_VERSION = "1"
"""The unit of calibrated time; goes up when the reference workload changes."""

_VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel", "0x41": "arm", "0xc0": "ampere"}
_GPU_COMPARED = ("gpu", "gpu_memory_mib", "compute_capability", "driver")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """An environment.

    Attributes:
        compared: fields that have to be equal; "unknown" equals nothing that is known.
        recorded: fields that are kept for a reader, and not compared.
    """

    compared: Mapping[str, str]
    recorded: Mapping[str, str]

    @property
    def slug(self) -> str:
        """A folder name such as "cpu-amd-25-1-1_4cpu_py3.11"; environments that differ may share one."""
        fields = self.compared
        if fields["device"] == "cuda":
            parts = [f"cuda-{fields['gpu']}", f"driver{fields['driver']}", f"torch{fields['torch']}"]
        else:
            vendor = _VENDORS.get(fields["cpu_vendor"], fields["cpu_vendor"])
            kind = "-".join([vendor, *(fields[f"cpu_{name}"] for name in ("family", "model", "stepping"))])
            parts = [f"cpu-{kind}", f"{fields['cpu_count']}cpu"]
        return "_".join(map(_plain, [*parts, f"py{fields['python']}"]))


def fingerprint(device: str = "cpu") -> Fingerprint:
    """The environment of this process.

    Args:
        device: "cpu", or "cuda" where timings are those of a GPU: nvidia-smi and torch are asked then, and
            only then.
    """
    compared = {
        "device": device,
        "os": platform.system(),
        "architecture": platform.machine(),
        "python": _minor(platform.python_version()),
        "implementation": platform.python_implementation(),
        "torch": _minor(_installed("torch")),
        "triton": _minor(_installed("triton")),
        "reference_workload": REFERENCE_VERSION,
        **processor(),
    }
    recorded = {
        "cpu_name": cpu_name(),
        "kernel": platform.release(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python_version": sys.version.partition("(")[0].strip(),
        **{f"{name}_version": _installed(name) for name in ("numpy", "torch", "triton")},
    }
    if device == "cuda":
        found = gpu()
        compared |= {field: found.pop(field) for field in _GPU_COMPARED} | {"cuda": _cuda()}
        recorded |= found | {"driver_version": compared["driver"]}
        compared["driver"] = compared["driver"].partition(".")[0]
    return Fingerprint(compared, recorded)


def mismatches(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[str, ...]:
    """The compared fields that are not equal, such as "driver 580 here, 570 there"."""
    names = [*here, *sorted(there.keys() - here.keys())]
    return tuple(
        f"{name.replace('_', ' ')} {here.get(name, UNKNOWN)} here, {there.get(name, UNKNOWN)} there"
        for name in names
        if here.get(name, UNKNOWN) != there.get(name, UNKNOWN)
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _minor(full: str) -> str:
    """Major and minor number, without what follows."""
    found = re.match(r"\d+\.\d+", full)
    return found[0] if found else full


def _cuda() -> str:
    """The CUDA that torch was built with; one import of a broken torch must not end the run."""
    try:
        return _minor(str(import_module("torch").version.cuda))
    except (ImportError, AttributeError):
        return UNKNOWN


def _plain(text: str) -> str:
    """Letters that any file system takes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")

"""The environment that timings belong to."""

import sys
from pathlib import Path

import pytest

from pytest_pagedkv.baselines import fingerprint as module
from pytest_pagedkv.baselines.fingerprint import Fingerprint, fingerprint, mismatches
from pytest_pagedkv.baselines.machine import UNKNOWN, cpu_name, gpu, processor

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
stepping\t: 1

processor\t: 1
vendor_id\t: Other
"""
ARM = """processor\t: 0
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""
SMI = "NVIDIA H100 80GB HBM3, 81559, 9.0, 570.86.15, 1980, 2619, Enabled, [N/A], 700.00"


def machine(root: Path, cpuinfo: str, **caches: tuple[str, str, str]) -> Path:
    """A root with what Linux shows of a processor."""
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    for name, values in caches.items():
        folder = root / "sys/devices/system/cpu/cpu0/cache" / name
        folder.mkdir(parents=True)
        for file, value in zip(("level", "type", "size"), values, strict=True):
            (folder / file).write_text(value + "\n")
    return root


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an nvidia-smi first on the path."""
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_the_first_processor_and_its_caches_are_read(tmp_path: Path) -> None:
    """Of x86: vendor, family, model, stepping, and every cache with its size."""
    root = machine(
        tmp_path,
        X86,
        index0=("1", "Data", "32K"),
        index1=("1", "Instruction", "32K"),
        index2=("2", "Unified", "512K"),
        index3=("3", "Unified", "32768K"),
    )

    found = processor(root)

    assert found.pop("cpu_count").isdigit()
    assert found == {
        "cpu_vendor": "AuthenticAMD",
        "cpu_family": "25",
        "cpu_model": "1",
        "cpu_stepping": "1",
        "cpu_caches": "L1d 32K, L1i 32K, L2 512K, L3 32768K",
    }
    assert cpu_name(root) == "AMD EPYC 7763 64-Core Processor"


def test_arm_has_other_names(tmp_path: Path) -> None:
    """Implementer, architecture, part and revision stand for vendor, family, model and stepping."""
    found = processor(machine(tmp_path, ARM))

    assert [found[f"cpu_{name}"] for name in ("vendor", "family", "model", "stepping")] == [
        "0x41",
        "8",
        "0xd0c",
        "1",
    ]


def test_what_a_sandbox_hides_is_unknown(tmp_path: Path) -> None:
    """Without /proc and /sys the fields are there, and equal nothing that is known."""
    hidden = processor(tmp_path)
    known = processor(machine(tmp_path, X86, index0=("1", "Data", "32K")))

    assert set(hidden.values()) - {hidden["cpu_count"]} == {UNKNOWN}
    assert mismatches(hidden, hidden) == ()
    assert "cpu caches unknown here, L1d 32K there" in mismatches(hidden, known)
    assert len(mismatches(hidden, known)) == 5


def test_the_gpu_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for the device that this process may use; without an answer every field is unknown."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    smi(tmp_path, monkeypatch, f'case "$*" in *--id=3*) echo "{SMI}";; esac')
    found = gpu()
    smi(tmp_path, monkeypatch, "echo No devices were found; exit 6")
    none = gpu()
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))

    assert (found["gpu"], found["driver"], found["mig"]) == ("NVIDIA H100 80GB HBM3", "570.86.15", UNKNOWN)
    assert set(none.values()) == {UNKNOWN}
    assert gpu() == none


def test_a_gpu_counts_only_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's fingerprint starts no program and imports no torch; the GPU's compares the driver's major."""
    smi(tmp_path, monkeypatch, f'touch {tmp_path}/asked; echo "{SMI}"')
    monkeypatch.setattr(module, "_cuda", lambda: "12.8")
    before = "torch" in sys.modules

    cpu = fingerprint()
    assert not (tmp_path / "asked").exists()
    cuda = fingerprint("cuda")

    assert ("torch" in sys.modules) is before
    assert "gpu" not in cpu.compared
    assert (cuda.compared["driver"], cuda.recorded["driver_version"]) == ("570", "570.86.15")
    assert cuda.slug.startswith("cuda-nvidia-h100-80gb-hbm3_driver570_torch")


def test_the_same_environment_has_one_slug_and_no_mismatch() -> None:
    """Twice the same; load is recorded and never compared; letters that any file system takes."""
    first, second = fingerprint(), fingerprint()

    assert (first.slug, first.compared) == (second.slug, second.compared)
    assert mismatches(first.compared, second.compared) == ()
    assert set(first.slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
    assert "load" in first.recorded
    assert "load" not in first.compared


def test_a_mismatch_names_the_field() -> None:
    """Values of both sides, in the words of the field."""
    here = {"driver": "580", "torch": "2.9", "gpu": "A"}

    assert mismatches(here, here | {"driver": "570"}) == ("driver 580 here, 570 there",)
    assert mismatches(here, {"driver": "580", "torch": "2.9"}) == ("gpu A here, unknown there",)
    assert mismatches({}, {"cpu_model": "1"}) == ("cpu model unknown here, 1 there",)


def test_a_slug_reads_like_a_machine() -> None:
    """Vendor, family, model and stepping; the number of processors; Python."""
    compared = {
        "device": "cpu",
        "python": "3.11",
        "cpu_vendor": "GenuineIntel",
        "cpu_family": "6",
        "cpu_model": "106",
        "cpu_stepping": "6",
        "cpu_count": "4",
    }

    assert Fingerprint(compared, {}).slug == "cpu-intel-6-106-6_4cpu_py3.11"

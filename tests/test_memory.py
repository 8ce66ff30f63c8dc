"""What the host has, and what a container lets a process have of it."""

from pathlib import Path

import pytest

from pagedkv import memory

FREE = 8 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of a machine that has this much free, and no groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {FREE >> 10} kB\nHugePages: 0\n")
    (tmp_path / "own").write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    return tmp_path


def group(folder: Path, **files: object) -> None:
    """A group with these files; dots in their names are double underscores."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_this_machine_has_some() -> None:
    """Where it says so."""
    found = memory.available_host_memory()
    assert found is None or found > 1 << 20


def test_without_limits(machine: Path) -> None:
    """What the kernel says; None where it says nothing."""
    assert memory.available_host_memory() == FREE
    (machine / "meminfo").write_text("MemTotal: 99 kB\n")
    assert memory.available_host_memory() is None
    for name in ("meminfo", "own"):
        (machine / name).unlink()
    assert memory.available_host_memory() is None


@pytest.mark.parametrize(("limit", "left"), [(1000, 700), (200, 0), ("max", FREE), (FREE * 2, FREE)])
def test_the_limit_of_a_container(machine: Path, limit: object, left: int) -> None:
    """Less what is used; a container finds its group at the root, whatever it is called."""
    (machine / "own").write_text("0::/not/to/be/seen\n")
    group(machine / "groups", memory__max=limit, memory__current=300)
    assert memory.available_host_memory() == left


def test_limits_of_groups_in_groups(machine: Path) -> None:
    """The tightest counts; pages of files are given back when somebody needs them."""
    (machine / "own").write_text("1:cpu:/x\n0::/outer/inner\n")
    group(machine / "groups" / "outer", memory__max=5000, memory__current=1000)
    inner = machine / "groups" / "outer" / "inner"
    group(inner, memory__max="max", memory__current=1000)
    assert memory.available_host_memory() == 4000
    statistics = "anon 100\ninactive_file 500\nactive_file 200\n"
    group(inner, memory__max=2000, memory__current=1000, memory__stat=statistics)
    assert memory.available_host_memory() == 1700


def test_limits_as_they_were_in_version_1(machine: Path) -> None:
    """Other names, in a folder of their own."""
    (machine / "own").write_text("9:cpu,memory:/box\n0::/\n")
    files = {"memory__limit_in_bytes": 2000, "memory__usage_in_bytes": 1500}
    group(machine / "groups" / "memory" / "box", **files, memory__stat="total_inactive_file 100\n")
    assert memory.available_host_memory() == 600

"""The figures of a kernel: against the tools, against the architecture, and out of a file."""

from collections import Counter
from dataclasses import asdict, replace

import pytest

from pytest_pagedkv.compiler import Limits, Resources
from pytest_pagedkv.compiler.cache import Cache
from pytest_pagedkv.compiler.tools import Code

FIGURES = Resources(
    variant="scale_rows-bf16",
    kernel="scale_rows",
    arch=90,
    num_warps=4,
    registers=96,
    spill_store_bytes=8,
    spill_load_bytes=12,
    stack_bytes=16,
    shared_memory_bytes=4096,
    instructions=100,
    wide_loads=2,
    loads_64_bit=1,
    narrow_loads=0,
    wide_stores=1,
    narrow_stores=0,
    hmma=4,
    hgmma=8,
    qgmma=0,
    barriers=2,
)


def test_fits() -> None:
    """A kernel that can be launched exceeds nothing."""
    assert FIGURES.excesses == ()
    assert FIGURES.limits == Limits(registers=255, block_registers=65536, shared_memory_bytes=227 * 1024)
    assert (FIGURES.spill_bytes, FIGURES.tensor_core) == (20, 12)


def test_names_what_is_too_much() -> None:
    """Shared memory and the registers of all threads are limited by the architecture."""
    large = replace(FIGURES, arch=80, num_warps=32, shared_memory_bytes=164 * 1024)

    assert large.excesses == (
        "block_registers 98304, and sm_80 has 65536",
        "shared_memory_bytes 167936, and sm_80 has 166912",
    )


def test_limits_of_unknown_architectures() -> None:
    """One that is not known has what the next older one has."""
    assert Limits.of(103) == Limits.of(100)
    assert Limits.of(60) == Limits.of(70)


def test_counters_leave_out_what_the_kernel_is() -> None:
    """Its name, architecture and warps are no figures."""
    assert FIGURES.counters.keys() == asdict(FIGURES).keys() - {"variant", "kernel", "arch", "num_warps"}


def test_operations_by_width() -> None:
    """The width is a part of the operation's name; a cache hint of 128 bytes is none."""
    names = [
        "LDG.E",
        "LDG.E.128",
        "LDGSTS.E.BYPASS.LTC128B.128",
        "LDG.E.LTC128B.64",
        "LDG.E.U16",
        "LDGDEPBAR",
    ]

    code = Code(32, 0, Counter(names))

    assert code.by_width("LDG", "LDGSTS") == {4: 1, 16: 2, 8: 1, 2: 1}


def test_bytes_moved() -> None:
    """Every instruction counts with its width."""
    assert Code(255, 8, {"STL.64": 3, "STL": 2, "LDL.128": 1}).bytes_moved("STL") == 32


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"{}", b"null", b'{"kernel": 1}', b"\xff", b'{"registers": 3}'],
    ids=lambda damage: damage.decode(errors="replace") or "empty",
)
def test_a_broken_entry_is_not_there(tmp_path, damage: bytes) -> None:
    """What cannot be read is compiled again, and then it can."""
    cache = Cache(tmp_path / "figures")
    cache.put("key", FIGURES)
    assert cache.get("key") == FIGURES

    (tmp_path / "figures" / "key.json").write_bytes(damage)

    assert cache.get("key") is None
    cache.put("key", FIGURES)
    assert cache.get("key") == FIGURES


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path) -> None:
    """Figures that cannot be kept are figures all the same."""
    (tmp_path / "figures").write_text("a file")
    cache = Cache(tmp_path / "figures")

    cache.put("key", FIGURES)

    assert cache.get("key") is None

"""The tables for a terminal."""

from dataclasses import replace

from rich.console import Console

from pagedkv.bench.cases import KERNELS
from pagedkv.bench.results import Run
from pagedkv.bench.table import about, remarks, tables
from tests.bench.runs import LIMITS, MACHINE, full_run, troubled_run


def printed(run: Run) -> list[str]:
    """The lines of all tables."""
    console = Console(width=200, no_color=True)
    with console.capture() as shown:
        for table in tables(run):
            console.print(table)
    return [line.rstrip() for line in shown.get().splitlines()]


def test_there_is_a_table_for_each_kernel() -> None:
    """It has the name of the kernel above it, and what the kernel has besides among its columns."""
    lines = printed(full_run())

    assert [line for line in lines if line in KERNELS] == list(KERNELS)
    heads = {line: " ".join(lines[index + 1].split()) for index, line in enumerate(lines) if line in KERNELS}
    assert heads["paged_decode"] == "dtype page batch tokens best median floor % of floor error x sdpa"
    assert "tokens new best" in heads["paged_prefill"]
    assert "tokens shared best" in heads["paged_decode_shared"]
    assert heads["block_copy"].endswith("error x clone")


def test_a_line() -> None:
    """Times have units, the share is a percentage, an exact result an error of 0."""
    lines = printed(full_run())
    decode, copy = (lines[lines.index(name) + 2].split() for name in ("paged_decode", "block_copy"))

    assert decode[:4] == ["fp32", "16", "4", "256"]
    assert decode[-3:] == ["2.0e-04", "0.50", "0.50"]
    assert copy[-3:] == ["0", "0.50", "0.50"]


def test_what_is_wrong_shows_no_time() -> None:
    """The line says so, and the remarks say what was found."""
    run = troubled_run()

    assert [line.split()[4] for line in printed(run)[2:]][1] == "WRONG"
    found = "wrong result: relative error 0.3, at most 0.0001 is right"
    assert [text for text, _ in remarks(run)] == [
        f"WRONG  paged_decode, fp32 page 16, 4 x 1024: ours: {found}",
        f"WRONG  paged_decode, fp32 page 16, 4 x 4096: sdpa: {found}",
        "not measured: paged_decode, fp32 page 16, 8 x 256: needs about 90.0 GiB, and 20.0 GiB are free",
        "without flashinfer on 3 shapes: flashinfer is not installed",
        "interrupted after 4 of 6 shapes",
    ]


def test_a_busy_machine() -> None:
    """A load of half the cores is told as what it is, unless the GPU does the work."""
    assert "others are busy here" in dict(about(replace(MACHINE, load=1.0), LIMITS))["load"]
    assert "busy" not in dict(about(replace(MACHINE, load=1.0, device="cuda", gpu="A GPU"), LIMITS))["load"]


def test_the_machine() -> None:
    """What it is comes before what it was measured to do."""
    found = dict(about(MACHINE, LIMITS))

    assert found["cpu"] == "A Processor <of 2 cores>, 2 cores, 2 threads of torch"
    assert found["gpu"] == "none used"
    assert found["load"] == "0.3 before the run"
    assert found["copy"] == "10.0 GB/s, reading and writing together"
    assert found["matrix product"] == "fp32 50.0 GFLOP/s, bf16 200 GFLOP/s"

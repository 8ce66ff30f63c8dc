"""`pagedkv bench kernels`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagedkv.bench.cases import KERNELS
from tests.cli.conftest import Pagedkv

SHAPE = ("--page", 16, "--batch", 2, "--length", 20, "--dtype", "fp32", "--seconds", 0.01, "--device", "cpu")
COMMAND = ("bench", "kernels", *SHAPE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limits are made up, and its caches are not emptied."""
    torch = pytest.importorskip("torch")
    from pagedkv.bench import kernels
    from pagedkv.bench.floors import Limits
    from pagedkv.bench.machine import describe
    from pagedkv.bench.timing import CpuTimer

    limits = Limits(10e9, 20e9, {"fp32": 50e9, "bf16": 200e9})
    bench = kernels.Bench(torch.device("cpu"), describe("cpu"), limits, CpuTimer(1024))
    monkeypatch.setattr(kernels, "prepare", lambda _device, _cases: bench)


@pytest.mark.usefixtures("quick")
def test_json(pagedkv: Pagedkv) -> None:
    """`--json` prints one document with a row for each shape of each kernel."""
    found = pagedkv(*COMMAND, "--json")

    document = json.loads(found.stdout)
    assert (found.code, found.stderr) == (0, "")
    assert (document["schema"], document["version"], document["interrupted"]) == (
        "pagedkv.bench.kernels",
        1,
        False,
    )
    assert [row["kernel"] for row in document["rows"]] == list(KERNELS)
    assert all(row["floor_ratio"] > 0 for row in document["rows"])
    assert set(document["rows"][0]["times"]) == {"ours", "sdpa"}


@pytest.mark.usefixtures("quick")
def test_tables(pagedkv: Pagedkv) -> None:
    """The machine first, then a table for each kernel, then why peers are missing; no colour."""
    found = pagedkv(*COMMAND, "--kernel", "kv_write", "paged_decode")

    assert found.code == 0
    assert re.match(r"cpu +\S", found.stdout)
    lines = found.stdout.splitlines()
    assert [line for line in lines if line in KERNELS] == ["paged_decode", "kv_write"]
    assert "gpu             none used" in lines
    assert "copy            10.0 GB/s, reading and writing together" in lines
    assert "without flashinfer on 1 shape: FlashInfer runs on CUDA alone" in lines
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.usefixtures("quick")
def test_a_page(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """`-o` writes a page besides."""
    path = tmp_path / "out.html"

    found = pagedkv(*COMMAND, "--kernel", "block_copy", "-o", path)

    assert found.code == 0
    assert "block_copy" in found.stdout
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>\n")


@pytest.mark.usefixtures("quick")
def test_a_wrong_result(pagedkv: Pagedkv, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 1, and a line in place of the time says what was wrong."""
    kernels = pytest.importorskip("pagedkv.kernels")
    monkeypatch.setattr(kernels, "paged_decode", _zeros)

    found = pagedkv(*COMMAND, "--kernel", "paged_decode")

    assert found.code == 1
    assert (
        "WRONG  paged_decode, fp32 page 16, 2 x 20: ours: wrong result: relative error 1, "
        "at most 0.0001 is right" in found.stdout
    )
    assert json.loads(pagedkv(*COMMAND, "--kernel", "paged_decode", "--json").stdout)["rows"][0]["wrong"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("form", ["table", "json"])
def test_ctrl_c(pagedkv: Pagedkv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    """What was measured is printed, and is on the page; the exit code is that of an interrupted process."""
    kernels = pytest.importorskip("pagedkv.kernels")
    monkeypatch.setattr(kernels, "kv_write", _interrupted)
    page = tmp_path / "out.html"

    more = ["--json"] if form == "json" else []
    found = pagedkv(*COMMAND, "--kernel", "paged_decode", "kv_write", "-o", page, *more)

    assert found.code == 130
    assert "Interrupted after 1 of 2 shapes" in page.read_text("utf-8")
    if form == "json":
        document = json.loads(found.stdout)
        assert (document["interrupted"], document["planned"], len(document["rows"])) == (True, 2, 1)
    else:
        assert found.stdout.endswith("interrupted after 1 of 2 shapes\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kernel", "paged_encode"], "invalid choice: 'paged_encode' (choose from "),
        (["--dtype", "int4"], "invalid choice: 'int4'"),
        (["--page", "0"], "'0' is not an integer from 1 to 2147483647"),
        (["--seconds", "0"], "'0' is not a number of seconds from more than 0 to 86400"),
        (["--seconds", "nan"], "'nan' is not a number of seconds"),
    ],
)
def test_wrong_arguments(pagedkv: Pagedkv, arguments: list[str], told: str) -> None:
    """They end the command before torch is imported; an unknown kernel lists the known."""
    found = pagedkv("bench", "kernels", *arguments)

    assert found.code == 2
    assert told in found.stderr
    if "--kernel" in arguments:
        assert all(name in found.stderr for name in KERNELS)


def test_no_gpu(pagedkv: Pagedkv) -> None:
    """The message says what torch is, and what to do."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")

    found = pagedkv("bench", "kernels", "--device", "cuda")

    assert (found.code, found.stdout) == (2, "")
    assert found.stderr.startswith("pagedkv: --device cuda: torch finds no GPU here")
    assert found.stderr.endswith("use --device cpu\n")


def test_no_torch(pagedkv: Pagedkv, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    found = pagedkv("bench", "kernels")

    assert (found.code, found.stdout) == (2, "")
    assert found.stderr == (
        "pagedkv: pagedkv bench kernels needs torch, which is not installed: pip install 'pagedkv[torch]'\n"
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["", "missing/out.html"])
def test_a_page_that_cannot_be_written(pagedkv: Pagedkv, tmp_path: Path, name: str) -> None:
    """It is told before anything is measured."""
    found = pagedkv(*COMMAND, "-o", tmp_path / name)

    assert (found.code, found.stdout) == (2, "")
    assert "cannot be written; name a file in a folder that exists and is yours" in found.stderr


def test_the_command_line_imports_no_torch() -> None:
    """Neither the help nor another command waits for it."""
    code = "import sys; from pagedkv.cli.app import _parser; _parser('bench'); print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def _zeros(*_arguments: Any, out: Any, **_more: Any) -> Any:
    return out.zero_()


def _interrupted(*_arguments: Any, **_more: Any) -> Any:
    raise KeyboardInterrupt

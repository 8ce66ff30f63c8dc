"""`pagedkv workload`."""

import gzip
import json
from pathlib import Path

import pytest

from pagedkv.traces import generate, read_trace
from tests.cli.conftest import Pagedkv


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_writes_a_trace_that_replay_reads(pagedkv: Pagedkv, tmp_path: Path, name: str) -> None:
    """The file holds exactly the generated trace, packed if its name says so."""
    path = tmp_path / name

    assert pagedkv("workload", "chat", "--requests", 40, "--seed", 3, "-o", path).code == 0
    assert read_trace(path) == generate("chat", num_requests=40, seed=3)
    assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert json.loads(pagedkv("replay", path, "--json").stdout)["requests"] == 40


def test_equal_traces_are_equal_files(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Packed files depend neither on the time nor on their names."""
    for name in ("a.gz", "b.gz"):
        pagedkv("workload", "code", "--requests", 9, "-o", tmp_path / name)

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()).count(b"\n") == 9


def test_writes_to_stdout(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Without a file the trace, and nothing else, goes to stdout."""
    pagedkv("workload", "beams", "--requests", 5, "-o", tmp_path / "file")
    found = pagedkv("workload", "beams", "--requests", 5)

    assert found == (0, (tmp_path / "file").read_text(), "")


def test_overrides(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Every setting of the workload has an option."""
    path = tmp_path / "trace"
    options = ("--block-size", 32, "--turns-mean", 1.5, "--system-tokens", 100, "--request-rate-per-s", 0.25)
    pagedkv("workload", "chat", "--requests", 30, *options, "-o", path)

    overrides = {"block_size": 32, "turns_mean": 1.5, "system_tokens": 100, "request_rate_per_s": 0.25}
    assert read_trace(path) == generate("chat", num_requests=30, seed=0, **overrides)


def test_describes_what_it_wrote(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """With a file, stdout says what is in it, as a table or as JSON."""
    arguments = ("generate", "agentic", "--requests", 20, "--seed", 1, "-o", tmp_path / "trace")
    found = json.loads(pagedkv(*arguments, "--json").stdout)

    assert found["requests"] == 20
    assert (found["preset"], found["seed"], found["block_size"]) == ("agentic", 1, 64)
    assert found["prompt_tokens"] > 20 * 15_000
    assert "prompt tokens" in pagedkv(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chit",), "invalid choice: 'chit'"),
        (("chat", "--requests", "0"), "'0' is not an integer from 1"),
        (("chat", "--seed", "-1"), "'-1' is not an integer from 0"),
        (("chat", "--burstiness", "0.5"), "burstiness is 0.5; it must be float, at least 1"),
        (("chat", "--turns-mean", "nan"), "turns_mean is nan"),
        (("chat", "--block-size", "x"), "argument --block-size: invalid int value: 'x'"),
        (("chat", "-o", "/"), "/: cannot be written: Is a directory"),
        (
            ("chat", "--request-rate-per-s", "1e-310"),
            "request_rate_per_s is 1e-310; it must be float, at least",
        ),
        (("chat", "--json"), "add -o FILE, or leave --json out"),
    ],
)
def test_impossible_arguments(pagedkv: Pagedkv, arguments: tuple[str, ...], message: str) -> None:
    """An argument that cannot work is named on stderr with exit code 2."""
    found = pagedkv("workload", *arguments)

    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr

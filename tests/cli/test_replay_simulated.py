"""`pagedkv replay --mode simulated`."""

import json
import re
from pathlib import Path

import pytest

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.recording import read_run
from pagedkv.simulate import fitting_cache, simulate
from pagedkv.traces import read_trace
from tests.cli.conftest import Pagedkv
from tests.cli.test_replay import Terminal

SIMULATED = ("--mode", "simulated")


@pytest.mark.parametrize("mode", ["simulated", "simulate"])
def test_json(pagedkv: Pagedkv, mooncake: Path, mode: str) -> None:
    """`--json` has the numbers, the settings, state over time, and a timeline of each request."""
    found = pagedkv("replay", mooncake, "--mode", mode, "--json")

    assert (found.code, found.stderr) == (0, "")
    printed, expected = json.loads(found.stdout), simulate(read_trace(mooncake))
    assert {name: printed[name] for name in expected.as_dict()} == expected.as_dict()
    assert printed["series"] == expected.over_time()
    assert printed["timelines"] == expected.timeline_columns()
    assert printed["timelines"]["cached_tokens"] == [0, 512]
    settings = {name: printed[name] for name in ("mode", "format", "block_size", "device_profile", "policy")}
    assert settings == {
        "mode": "simulated",
        "format": "mooncake",
        "block_size": 512,
        "device_profile": "h200",
        "policy": "fcfs",
    }


def test_json_twice(pagedkv: Pagedkv, mooncake: Path) -> None:
    """The same command prints the same bytes."""
    first, second = (pagedkv("replay", mooncake, *SIMULATED, "--json").stdout for _ in range(2))

    assert first == second


def test_table(pagedkv: Pagedkv, mooncake: Path) -> None:
    """Without `--json` the numbers are a table, in milliseconds."""
    found = pagedkv("replay", mooncake, *SIMULATED)

    fits = fitting_cache(read_trace(mooncake)).num_blocks
    title = f"{mooncake} (mooncake), simulated: {fits} blocks of 512 tokens, 1 x h200, llama-3-8b\n"
    assert found.stdout.startswith(title)
    assert re.search(
        r"time to first token \(ms\): p50 / p90 / p99 +\d+\.\d / \d+\.\d / \d+\.\d\n", found.stdout
    )
    assert re.search(r"requests +2\n", found.stdout)


def test_options_reach_the_simulation(pagedkv: Pagedkv, azure: Path) -> None:
    """Every option has its setting."""
    found = json.loads(
        pagedkv(
            "replay", azure, *SIMULATED, "--json",
            "--no-prefix-caching", "--num-blocks", 50, "--block-size", 8,
            "--device-profile", "l4", "--model-shape", "llama-3.2-1b", "--time-scale", 2.5, "--open-loop",
            "--sample-interval-ms", 10, "--seed", 3, "--fork-mode", "eager",
            "--max-batch-tokens", 64, "--max-running", 4, "--max-chunk-tokens", 32, "--policy", "lifo",
            "--watermark", 0.05, "--max-wait-ms", 100, "--merge-window-ms", 5, "--length-buckets", "32,64",
            "--adaptive-batch-size",
        ).stdout
    )  # fmt: skip

    expected = simulate(
        read_trace(azure),
        cache=CacheConfig(num_blocks=50, block_size=8, prefix_caching=False, fork_mode="eager"),
        scheduler=SchedulerConfig(
            max_batch_tokens=64, max_running=4, max_chunk_tokens=32, policy="lifo", watermark_ratio=0.05,
            max_wait_ms=100, batch_merge_window_ms=5, length_buckets=(32, 64), adaptive_batch_size=True,
        ),
        device="l4", model="llama-3.2-1b", time_scale=2.5, closed_loop=False, sample_interval_ms=10, seed=3,
    )  # fmt: skip
    assert {name: found[name] for name in expected.as_dict()} == expected.as_dict()
    assert (found["length_buckets"], found["num_devices"]) == ([32, 64], 1)


def test_several_devices(pagedkv: Pagedkv, mooncake: Path) -> None:
    """More devices have more blocks, and are quicker."""
    one, four = (
        json.loads(pagedkv("replay", mooncake, *SIMULATED, "--json", "--num-devices", n).stdout)
        for n in (1, 4)
    )

    assert four["num_blocks"] > 4 * one["num_blocks"]
    assert four["makespan_ns"] < one["makespan_ns"]


def test_max_requests(pagedkv: Pagedkv, mooncake: Path) -> None:
    """Only the first requests are sent."""
    found = json.loads(pagedkv("replay", mooncake, *SIMULATED, "--max-requests", 1, "--json").stdout)

    assert (found["requests"], found["timelines"]["request"]) == (1, [0])


def test_blocks_divide_those_of_the_ids(pagedkv: Pagedkv, mooncake: Path) -> None:
    """Smaller blocks are smaller parts of the trace's; others are refused with both sizes."""
    assert pagedkv("replay", mooncake, *SIMULATED, "--block-size", 64).code == 0

    found = pagedkv("replay", mooncake, *SIMULATED, "--block-size", 100)
    assert (found.code, found.stdout) == (2, "")
    assert "ids stand for blocks of 512 tokens, which blocks of 100 do not divide" in found.stderr


def test_ids_of_another_size(pagedkv: Pagedkv, mooncake: Path) -> None:
    """`--id-block-size` says what the trace's ids stand for."""
    found = pagedkv("replay", mooncake, *SIMULATED, "--id-block-size", 64)

    assert found.code == 2
    assert "expected 11 ids for input_length 700" in found.stderr


def test_a_hit_rate_is_not_invented(pagedkv: Pagedkv, azure: Path) -> None:
    """Without ids a prefix model is needed, or no prefix caching; blocks then have any size."""
    found = pagedkv("replay", azure, *SIMULATED)
    assert found.code == 2
    assert "--prefix-model none" in found.stderr
    assert "--no-prefix-caching" in found.stderr

    for more in (("--prefix-model", "shared:32"), ("--no-prefix-caching",)):
        assert pagedkv("replay", azure, *SIMULATED, "--block-size", 24, *more).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "simulated", "--fork", "2"), "it does not go with --mode simulated"),
        (("--mode", "simulated", "--num-blocks", "inf"), "a device's memory is not"),
        (("--mode", "simulated", "--device-profile", "abacus"), "there are a100, h100, h200, l4, cpu"),
        (("--mode", "simulated", "--model-shape", "huge"), "model shape 'huge' is unknown"),
        (("--mode", "simulated", "--model-shape", "llama-3-70b", "--device-profile", "l4"), "no block of"),
        (("--mode", "simulated", "--num-devices", "3"), "cannot be divided among 3 devices: num_heads is 32"),
        (("--mode", "simulated", "--time-scale", "0"), "'0' is not a number above 0"),
        (("--mode", "simulated", "--watermark", "2"), "watermark_ratio is 2.0"),
        (("--mode", "simulated", "--watermark", "x"), "'x' is not a number from 0"),
        (("--mode", "simulated", "--length-buckets", "64,32"), "length_buckets is (64, 32)"),
        (("--mode", "fcfs", "--time-scale", "2"), "--time-scale belongs to --mode simulated"),
        (("--watermark", "0"), "--watermark belongs to --mode simulated; the mode is sequential"),
        (("--open-loop",), "--open-loop belongs to --mode simulated"),
        (("--merge-window-ms", "5"), "--merge-window-ms belongs to --mode simulated"),
    ],
)
def test_impossible_arguments(
    pagedkv: Pagedkv, mooncake: Path, arguments: tuple[str, ...], message: str
) -> None:
    """An argument that cannot work is named on stderr with exit code 2."""
    found = pagedkv("replay", mooncake, *arguments)

    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr


def test_progress_is_shown_to_a_terminal(
    pagedkv: Pagedkv, mooncake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar moves on stderr if that is a terminal."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    assert pagedkv("replay", mooncake, *SIMULATED).code == 0
    assert "simulating" in terminal.getvalue()


def test_record(pagedkv: Pagedkv, mooncake: Path, tmp_path: Path) -> None:
    """With `--record` the run goes into a file, with what it was a run of; its numbers are the same."""
    path = tmp_path / "RUN.json"

    found = pagedkv("replay", mooncake, *SIMULATED, "--record", path, "--json")
    table = pagedkv("replay", mooncake, *SIMULATED, "--record", path).stdout

    assert (found.code, found.stderr) == (0, "")
    printed, record = json.loads(found.stdout), read_run(path)
    plain = json.loads(pagedkv("replay", mooncake, *SIMULATED, "--json").stdout)
    assert printed == plain | {"record": str(path)}
    assert record.about["trace"] == printed["trace"]
    assert record.about["device_profile"] == "h200"
    assert record.num_steps == printed["steps"]
    assert printed["findings"] == [each.as_dict() for each in record.findings]
    assert re.search(rf"recorded in +{re.escape(str(path))}", table)


def test_a_record_that_cannot_be_written(pagedkv: Pagedkv, mooncake: Path, tmp_path: Path) -> None:
    """One line, and exit code 2; and no other mode records."""
    nowhere = pagedkv("replay", mooncake, *SIMULATED, "--record", tmp_path / "none" / "RUN.json")
    other = pagedkv("replay", mooncake, "--record", tmp_path / "RUN.json")

    assert (nowhere.code, nowhere.stderr.count("\n")) == (2, 1)
    assert (
        "the run cannot be written there (No such file or directory); choose another file" in nowhere.stderr
    )
    assert (other.code, list(tmp_path.glob("RUN*"))) == (2, [])
    assert "--record belongs to --mode simulated; the mode is sequential" in other.stderr

"""`pagedkv replay`."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pagedkv.cli import replay
from pagedkv.cli.output import progress_bar
from pagedkv.replay import replay_fcfs, replay_fork, replay_sequential
from pagedkv.traces import read_trace
from tests.cli.conftest import Pagedkv


def test_sequential_json(pagedkv: Pagedkv, mooncake: Path) -> None:
    """`--json` prints the numbers of the replay, then what was replayed."""
    found = pagedkv("replay", mooncake, "--num-blocks", 3, "--json")

    assert (found.code, found.stderr) == (0, "")
    assert json.loads(found.stdout) == replay_sequential(read_trace(mooncake), 3).as_dict() | {
        "mode": "sequential",
        "trace": str(mooncake),
        "format": "mooncake",
        "block_size": 512,
        "num_blocks": 3,
    }
    assert list(json.loads(found.stdout))[:9] == [
        "requests",
        "rejected",
        "prompt_blocks",
        "lookup_blocks",
        "hit_blocks",
        "full_prefix_hits",
        "evictions",
        "blocks_allocated",
        "cached_end",
    ]


@pytest.mark.parametrize("more", [(), ("--num-blocks", "inf"), ("--mode", "sequential")])
def test_sequential_is_the_default(pagedkv: Pagedkv, mooncake: Path, more: tuple[str, ...]) -> None:
    """By default requests run one after the other, on as many blocks as are ever needed."""
    found = json.loads(pagedkv("replay", mooncake, "--json", *more).stdout)

    assert (found["mode"], found["num_blocks"], found["hit_blocks"]) == ("sequential", "inf", 1)


def test_sequential_table(pagedkv: Pagedkv, mooncake: Path) -> None:
    """Without `--json` the numbers are a table that needs no colour."""
    found = pagedkv("replay", mooncake)

    assert found.code == 0
    assert found.stdout.startswith(f"{mooncake} (mooncake), sequential: inf blocks of 512 tokens\n")
    assert re.search(r"hit ratio: reused / prompt blocks +20\.00%\n", found.stdout)
    assert "\x1b" not in found.stdout


def test_fcfs(pagedkv: Pagedkv, azure: Path) -> None:
    """`--mode fcfs` needs neither ids nor a prefix model."""
    found = json.loads(pagedkv("replay", azure, "--mode", "fcfs", "--num-blocks", 4, "--json").stdout)

    expected = replay_fcfs(read_trace(azure), 4).as_dict()
    assert {name: found[name] for name in expected} == expected
    assert found["total_wait_ms"] == 5 + 250 - 52
    assert (found["mode"], found["block_size"]) == ("fcfs", 16)
    assert "longest queue" in pagedkv("replay", azure, "--mode", "fcfs").stdout


def test_fork(pagedkv: Pagedkv, azure: Path) -> None:
    """`--fork` needs neither ids nor a prefix model."""
    found = json.loads(pagedkv("replay", azure, "--fork", 3, "--json").stdout)

    expected = replay_fork(read_trace(azure), 3).as_dict()
    assert {name: found[name] for name in expected} == expected
    assert (found["mode"], found["num_samples"]) == ("fork", 3)
    assert "fork x3: inf blocks of 16 tokens" in pagedkv("replay", azure, "--fork", 3).stdout


@pytest.mark.parametrize("how", [("--mode", "fcfs"), ("--fork", "2")])
def test_other_block_sizes(pagedkv: Pagedkv, mooncake: Path, how: tuple[str, ...]) -> None:
    """Where ids do not matter the blocks may have another size than the ids stand for."""
    found = json.loads(pagedkv("replay", mooncake, *how, "--block-size", 64, "--json").stdout)

    assert found["block_size"] == 64
    assert json.loads(pagedkv("replay", mooncake, *how, "--json").stdout)["block_size"] == 512


def test_block_size_has_to_be_that_of_the_ids(pagedkv: Pagedkv, mooncake: Path) -> None:
    """In sequential mode a block size that the ids cannot stand for is an error that names the option."""
    found = pagedkv("replay", mooncake, "--block-size", 64)

    assert found.code == 2
    assert "mooncake.jsonl:1: hash_ids: expected 11 ids for input_length 700" in found.stderr
    assert "--block-size" in found.stderr


def test_prefix_model_is_needed(pagedkv: Pagedkv, azure: Path) -> None:
    """A trace without ids needs a prefix model, and the message says so."""
    found = pagedkv("replay", azure)

    assert (found.code, found.stdout) == (2, "")
    assert "--prefix-model none" in found.stderr


@pytest.mark.parametrize(("model", "hits"), [("none", 0), ("shared:33", 2), ("shared:31", 1)])
def test_prefix_model(pagedkv: Pagedkv, azure: Path, model: str, hits: int) -> None:
    """A prefix model says how many blocks all prompts share."""
    found = json.loads(pagedkv("replay", azure, "--prefix-model", model, "--json").stdout)

    assert (found["hit_blocks"], found["block_size"]) == (hits, 16)


def test_output_tokens(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Rows that do not say how much is generated get the default that is asked for."""
    path = tmp_path / "tokens.jsonl"
    path.write_text('{"input_tok_ids": [1, 2, 3]}\n')

    for more, expected in ((), 17), (("--output-tokens", 0), 1):
        assert json.loads(pagedkv("replay", path, "--json", *more).stdout)["blocks_allocated"] == expected


def test_failed_requests_are_shown(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Requests that failed when the trace was taken are left out, and this is said."""
    path = tmp_path / "burst.csv"
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    path.write_text(header + "5,GPT-4,2,3,5,API log\n6,GPT-4,2,0,2,API log\n")

    found = json.loads(pagedkv("replay", path, "--mode", "fcfs", "--json").stdout)
    assert (found["requests"], found["failed_requests"]) == (1, 1)
    assert "failed in the trace, left out" in pagedkv("replay", path, "--mode", "fcfs").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-blocks", "0"), "argument --num-blocks: '0' is not an integer from 1"),
        (("--num-blocks", "1.5"), "argument --num-blocks: '1.5' is not an integer from 1"),
        (("--num-blocks", "many"), "argument --num-blocks: 'many' is not an integer"),
        (("--block-size", "-4"), "argument --block-size: '-4' is not an integer"),
        (("--fork", "0"), "argument --fork: '0' is not an integer from 1"),
        (("--fork", "9" * 5000), "is not an integer from 1"),
        (("--output-tokens", "-1"), "argument --output-tokens: '-1' is not an integer from 0"),
        (("--mode", "random"), "argument --mode: invalid choice: 'random'"),
        (("--mode", "fcfs", "--fork", "2"), "--fork runs one request after the other"),
        (("--prefix-model", "some"), "prefix model 'some' is unknown"),
        (("--prefix-model", "none"), "has block ids of its own"),
    ],
)
def test_impossible_arguments(
    pagedkv: Pagedkv, mooncake: Path, arguments: tuple[str, ...], message: str
) -> None:
    """An argument that cannot work is named on stderr with exit code 2."""
    found = pagedkv("replay", mooncake, *arguments)

    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr


@pytest.mark.parametrize("num_blocks", [200_000_000, 2**31 - 1])
@pytest.mark.parametrize("how", [(), ("--mode", "fcfs"), ("--fork", "2")])
def test_pool_larger_than_the_memory(mooncake: Path, how: tuple[str, ...], num_blocks: int) -> None:
    """A pool for which there is no memory is one line on stderr, with what it needs, and exit code 2."""
    program = (
        "import resource, sys; from pagedkv.cli import main;"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); sys.exit(main())"
    )
    arguments = ["replay", str(mooncake), "--num-blocks", str(num_blocks), *how]
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread takes a share of the address space
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    least = f"a pool of {num_blocks} blocks costs more than {60 * num_blocks // 2**20} MiB"
    assert found.stderr.startswith(f"pagedkv: out of memory: {least}, more than 60 bytes a block; ")
    assert "choose a smaller --num-blocks" in found.stderr


def test_endless_pool_larger_than_the_memory(
    pagedkv: Pagedkv, mooncake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody chose the size of the pool that memory is short of, the message asks for one."""

    def too_large(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(replay, "_replay", too_large)
    found = pagedkv("replay", mooncake)

    assert (found.code, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "a pool of inf blocks costs more than 60 bytes a block; give it a size" in found.stderr


def test_too_many_samples(pagedkv: Pagedkv, mooncake: Path) -> None:
    """Samples that need absurdly many blocks are refused as such, not as an endless pool."""
    found = pagedkv("replay", mooncake, "--fork", 2**31 - 1, "--num-blocks", 1000)

    assert (found.code, found.stdout) == (2, "")
    assert "--fork) is 2147483647" in found.stderr
    assert "inf" not in found.stderr


def test_names_that_the_terminal_cannot_show(mooncake: Path) -> None:
    """A file name outside the terminal's encoding is shown with escapes."""
    odd = mooncake.rename(mooncake.with_name(os.fsdecode(b"[b]\xff\xc3\xa9.jsonl")))
    for encoding in ("ascii", "utf-8"):
        for more in ((), ("--json",), ("--block-size", "3")):
            found = subprocess.run(
                [sys.executable, "-m", "pagedkv", "replay", str(odd), *more],
                env=os.environ | {"PYTHONIOENCODING": encoding},
                capture_output=True,
                check=False,
            )
            assert found.returncode == (2 if "--block-size" in more else 0)
            assert b"Traceback" not in found.stderr
            assert rb"[b]\udcff" in found.stdout + found.stderr


class Terminal(io.StringIO):
    """A stderr that somebody watches."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_progress_is_shown_to_a_terminal_only(
    pagedkv: Pagedkv, mooncake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar moves on stderr if that is a terminal; stdout stays what it was."""
    plain = pagedkv("replay", mooncake, "--json")
    with progress_bar("working") as progress:
        assert progress is None
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    assert pagedkv("replay", mooncake, "--json").stdout == plain.stdout
    assert "replaying" in terminal.getvalue()

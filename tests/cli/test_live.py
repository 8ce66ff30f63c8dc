"""`pagedkv inspect`, `debug` and `top`, of engines in this process and of files."""

import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagedkv.engine import Engine
from pagedkv.sampling.params import SamplingParams
from tests.cli.conftest import Pagedkv
from tests.engine.toy import toy_engine
from tests.live.talking import answering

COMMANDS = (
    ["inspect"],
    ["inspect", "--active-blocks"],
    ["debug", "--scheduler"],
    ["debug", "--prefix-cache"],
    ["top", "--once"],
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets are, and none yet."""
    monkeypatch.delenv("PAGEDKV_DEBUG_SOCKET", raising=False)
    with tempfile.TemporaryDirectory(prefix="pkv-") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path)


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    """An engine that has run, runs four sequences that share a prompt, and lets one request wait."""
    engine, _ = toy_engine(debug_socket=True, max_running=4)
    engine.generate([[7] * 9], SamplingParams(max_tokens=3, temperature=0.0, ignore_eos=True))
    engine.add_request([5] * 10, SamplingParams(n=4, seed=1, max_tokens=30, ignore_eos=True))
    engine.step()
    engine.step()
    engine.add_request([6] * 3, request_id="waits\x1b[31m")
    engine.step()
    yield engine
    engine.close()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_only_engine_needs_no_name(pagedkv: Pagedkv, engine: Engine, command: list[str]) -> None:
    """By its process, its socket, or nothing, the same is shown; nothing steers the terminal."""
    ways = ([], ["--pid", os.getpid()], ["--socket", engine.live.socket_path])
    code, shown, error = pagedkv(*command, *ways[0])

    assert (code, error) == (0, "")
    assert str(engine.live.socket_path) in shown
    assert "\x1b" not in shown
    if command[0] != "top":  # which tells the time
        assert {pagedkv(*command, *way).stdout for way in ways} == {shown}


def test_active_blocks_are_mapped(pagedkv: Pagedkv, engine: Engine) -> None:
    """Which sequence has which, how many are shared."""
    shown = pagedkv("inspect", "--active-blocks").stdout
    lines = shown.splitlines()
    tables = engine.snapshot(("tables",))["tables"]

    assert len(tables) == 4
    assert "shared 2 3.1%" in shown
    assert "64 blocks of 4 tokens   1 running, 1 waiting" in shown
    for each in tables:
        words = next(line for line in lines if line.startswith(f"{each['seq_id']} ")).split()
        assert words[2:5] == [str(each["num_tokens"]), str(len(each["blocks"])), "2"]


def test_requests_are_listed(pagedkv: Pagedkv, engine: Engine) -> None:
    """Without the blocks, a line for each request."""
    shown = pagedkv("inspect").stdout
    assert "decoding" in shown
    assert r"waits\x1b[31m" in shown


def test_the_scheduler_says_why(pagedkv: Pagedkv, engine: Engine) -> None:
    """The waiting request, and the steps."""
    shown = " ".join(pagedkv("debug", "--scheduler").stdout.split())

    assert "4 sequences run, 1 more would be above 4" in shown
    assert "the last 6 steps, the newest first" in shown


def test_the_prefix_cache_says_what_is_shared(pagedkv: Pagedkv, engine: Engine) -> None:
    """Four sequences have the prompt's two full blocks."""
    shown = pagedkv("debug", "--prefix-cache").stdout
    row = next(line.split() for line in shown.splitlines() if line.split()[:1] == ["4"])

    assert row[:4] == ["4", "2", "2", "6"]
    assert "goes next" in shown


def test_what_json_prints_is_shown_later(pagedkv: Pagedkv, engine: Engine, folder: Path) -> None:
    """A snapshot in a file is as good as the engine."""
    text = pagedkv("inspect", "--active-blocks", "--json").stdout
    (folder / "then.json").write_text(text)
    live = {" ".join(command): pagedkv(*command).stdout for command in COMMANDS}
    engine.close()

    for command in COMMANDS:
        code, shown, _ = pagedkv(*command, folder / "then.json")
        assert code == 0
        if command[0] != "top":
            expected = live[" ".join(command)].splitlines()[1:]
            assert shown.splitlines()[1:] == expected
        again = json.loads(pagedkv(*command, folder / "then.json", "--json").stdout)
        again.pop("usage", None)  # which top takes from the pool
        assert again == json.loads(text)


def test_json_of_a_live_engine(pagedkv: Pagedkv, engine: Engine) -> None:
    """Each command prints the snapshot that it would have shown."""
    for command in COMMANDS:
        found = json.loads(pagedkv(*command, "--json").stdout)
        assert found["schema_version"] == 1
        assert found["num_running"] == 1


def test_several_engines_are_listed(pagedkv: Pagedkv, engine: Engine) -> None:
    """And one has to be chosen."""
    other, _ = toy_engine(debug_socket=True)
    code, _, error = pagedkv("inspect")
    other_path = other.live.socket_path
    assert pagedkv("inspect", "--socket", other_path).code == 0
    other.close()

    assert code == 2
    assert str(engine.live.socket_path) in error
    assert f"{other_path} (pid {os.getpid()})" in error


def test_no_engine_is_one_line(pagedkv: Pagedkv, folder: Path) -> None:
    """With what to do."""
    for command in COMMANDS:
        code, shown, error = pagedkv(*command)
        assert (code, shown, error.count("\n")) == (2, "", 1)
        assert "PAGEDKV_DEBUG_SOCKET=1" in error
    assert "there is no such process" in pagedkv("top", "--pid", "2147483647").stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"INFO 07-01 engine started\n", "is not JSON"),
        (b"\xff\xfe\x00\x01", "is not JSON"),
        (b'{"schema_version": 1, "pool": {"num_bl', "breaks off after 38 bytes: half a file"),
        (b'{"schema_version": 1, "time_ns": 4,\n', "half a file"),
        (b"[1, 2]", "no snapshot of an engine"),
        (b'{"a": 1}', "no snapshot of an engine"),
        (b'{"schema_version": 2}', "schema version 2; this command reads 1"),
        (b'{"schema_version": 1}', "has no section"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_files_that_are_no_snapshots(pagedkv: Pagedkv, folder: Path, content: bytes, told: str) -> None:
    """Are said to be that, in one line."""
    (folder / "f").write_bytes(content)
    for command in COMMANDS:
        code, shown, error = pagedkv(*command, folder / "f")
        assert (code, shown, error.count("\n")) == (2, "", 1)
        assert told in error


def test_a_damaged_snapshot_is_one_line(pagedkv: Pagedkv, engine: Engine, folder: Path) -> None:
    """Sections of the right names with the wrong things in them."""
    found = engine.snapshot()
    for name in found.keys() - {"schema_version"}:
        (folder / "f").write_text(json.dumps(found | {"tables": [], "usage": {}, name: 3}))
        for command in COMMANDS:
            code, _, error = pagedkv(*command, folder / "f")
            assert code == 0 or (code == 2 and error.count("\n") == 1), (name, command, error)


def test_places_where_no_engine_is(pagedkv: Pagedkv, folder: Path) -> None:
    """A missing file, a folder, two places at once, another program's socket."""
    assert "cannot be read: No such file" in pagedkv("inspect", folder / "none").stderr
    assert "cannot be read: Is a directory" in pagedkv("inspect", folder).stderr
    assert "there is no such socket" in pagedkv("inspect", "--socket", folder / "none").stderr
    assert "give one of them" in pagedkv("top", "f", "--pid", "3").stderr
    assert "say what to look at" in pagedkv("debug").stderr
    with answering(folder / "s", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        assert "not a pagedkv engine" in pagedkv("inspect", "--socket", folder / "s").stderr


def test_top_on_a_terminal(engine: Engine) -> None:
    """It shows what goes on, says that the engine has gone, shows the next one, and ends with q."""
    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "pagedkv", "top", "--interval", "0.05"]
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, env=os.environ | {"TERM": "xterm"}
    )
    screen = _Screen(terminal)
    try:
        screen.wait_for(b"1 waiting")
        path = engine.live.socket_path
        engine.close()
        screen.wait_for(b"waiting for it to come back")
        again, _ = toy_engine(num_blocks=33, debug_socket=path)
        screen.wait_for(b"33 blocks of 4 tokens")
        os.write(terminal, b"q")
        assert process.wait(30) == 0
        again.close()
    finally:
        process.kill()
        process.wait()
        os.close(side)
        os.close(terminal)


class _Screen:
    """What a terminal gets."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal

    def wait_for(self, text: bytes) -> None:
        """Read until this was shown."""
        seen, give_up = b"", time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < give_up, seen[-2000:]
            if select.select([self.terminal], [], [], 0.1)[0]:
                seen = (seen + os.read(self.terminal, 1 << 16))[-100_000:]


def test_top_streams_json(engine: Engine) -> None:
    """A line at each look, until whoever reads has gone."""
    command = [sys.executable, "-m", "pagedkv", "top", "--json", "--interval", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.stdout.close()
        assert process.wait(30) == 141

    assert [each["schema_version"] for each in lines] == [1, 1, 1]

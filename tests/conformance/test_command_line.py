"""`pytest --pagedkv-adapter=module:Class --pyargs pytest_pagedkv.conformance`, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = """
from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement


class Toy(KVCacheAdapter):
    features = Feature.NONE

    def __init__(self, num_blocks, block_size):
        super().__init__(num_blocks, block_size)
        self.free = list(range(num_blocks))
        self.tables, self.lengths = {}, {}

    def admit(self, seq_id, token_ids, namespace=""):
        if seq_id in self.tables:
            raise ValueError(f"{seq_id} is live")
        self.tables[seq_id], self.lengths[seq_id] = self.take(len(token_ids), 0), len(token_ids)
        return Placement()

    def append(self, seq_id, token_ids):
        length = self.lengths[seq_id]
        self.tables[seq_id] += self.take(length + len(token_ids), len(self.tables[seq_id]))
        self.lengths[seq_id] = length + len(token_ids)
        return Placement()

    def take(self, num_tokens, num_held):
        needed = -(-num_tokens // self.block_size) - num_held
        if needed > len(self.free):
            raise OutOfBlocks(f"{needed} blocks needed, {len(self.free)} are free")
        return [self.free.pop() for _ in range(needed)]

    def release(self, seq_id):
        self.free += self.tables.pop(seq_id)
        del self.lengths[seq_id]

    def block_table(self, seq_id):
        return self.tables[seq_id]

    def num_free_blocks(self):
        return len(self.free)


class Leaky(Toy):
    def release(self, seq_id):
        self.tables.pop(seq_id)


class Absent(Toy):
    @classmethod
    def unavailable(cls):
        return "its engine is not installed"


class NotAnAdapter:
    pass
"""
FEW = """
from hypothesis import settings

settings.register_profile("few", max_examples=10)
settings.load_profile("few")
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with an empty conftest and a module of adapters."""
    (tmp_path / "conftest.py").write_text("")
    (tmp_path / "toys.py").write_text(TOY)
    return tmp_path


def run(folder: Path, *arguments: str, suite: str = "pytest_pagedkv.conformance") -> tuple[int, str]:
    """Run pytest there in a process of its own; gives the exit code and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *arguments, "--pyargs", suite]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_cache_is_tested_from_the_command_line(bare: Path) -> None:
    """In a bare folder, without pytest's cache, everything that the cache has is tested and counted."""
    code, out = run(bare, "-p", "no:cacheprovider", "-rs", "--pagedkv-adapter=toys:Toy")

    assert code == 0, out
    assert "Toy has no PREFIX_CACHE" in out
    assert "Toy: random programs: " in out
    assert "Toy: all programs of 4 calls on 3 blocks: " in out
    assert "out of blocks in append" in out
    assert not (bare / ".pytest_cache").exists()


def test_it_runs_under_xdist(bare: Path) -> None:
    """Tests run in workers, and their counts come home."""
    (bare / "conftest.py").write_text(FEW)
    code, out = run(bare, "-n", "2", "--pagedkv-adapter=toys:Toy", "-k", "scenario or random")

    assert code == 0, out
    assert "Toy: random programs: " in out


def test_a_failure_prints_what_is_needed(bare: Path) -> None:
    """The invariant, the pool and a program that can be pasted; and that program is a test that fails."""
    code, out = run(bare, "--pagedkv-adapter=toys:Leaky", "-k", "test_random_programs")

    assert code == 1, out
    assert "conservation: the cache says" in out
    assert "adapter  toys:Leaky(" in out
    assert "call     " in out
    assert "During handling" not in out
    assert "held by seq[entry]" in out
    assert "Leaky: random programs: " in out
    program = out[out.index("\nfrom pytest_pagedkv.conformance import CheckedCache") :]
    program = program[: program.index("cache.close()") + len("cache.close()")]
    (bare / "test_replay.py").write_text(program)
    code, out = run(bare, suite="test_replay")
    assert code == 1, out
    assert "InvariantViolation: conservation" in out


def test_an_absent_engine_skips(bare: Path) -> None:
    """With the reason that the adapter gives."""
    code, out = run(bare, "-rs", "--pagedkv-adapter=toys:Absent")

    assert code == 0, out
    assert "Absent: its engine is not installed" in out
    assert "passed" not in out


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("toys.Toy", "write it as module:Class"),
        ("nowhere:Toy", "importing nowhere raised ModuleNotFoundError"),
        ("toys:Tou", "toys has no Tou; its adapters are"),
        ("toys:NotAnAdapter", "not a subclass of KVCacheAdapter"),
        ("toys:TOO:MUCH", "toys has no TOO:MUCH"),
    ],
)
def test_a_wrong_path_is_a_usage_error(bare: Path, path: str, said: str) -> None:
    """It says what is wrong with it, and nothing runs."""
    code, out = run(bare, f"--pagedkv-adapter={path}")

    assert code == pytest.ExitCode.USAGE_ERROR, out
    assert f"--pagedkv-adapter={path}: " in out
    assert said in out
    assert "INTERNALERROR" not in out


def test_no_adapter_is_a_usage_error(bare: Path) -> None:
    """The message shows an adapter to begin with."""
    code, out = run(bare)

    assert code == pytest.ExitCode.USAGE_ERROR, out
    assert "--pagedkv-adapter=pytest_pagedkv.adapters.pagedkv:PagedKVAdapter" in out


def test_the_ini_file_may_name_the_adapter(bare: Path) -> None:
    """So that `pytest --pyargs pytest_pagedkv.conformance` is enough."""
    (bare / "pytest.ini").write_text("[pytest]\npagedkv_adapter = toys:Toy\n")

    code, out = run(bare, "-k", "interface")

    assert code == 0, out
    assert "1 passed" in out


def test_a_subclass_in_a_test_file(bare: Path) -> None:
    """The suite belongs to a class that sets `adapter`; the command line is not needed."""
    (bare / "test_mine.py").write_text(
        "from pytest_pagedkv.conformance import KVCacheConformance\n"
        "from toys import Toy\n"
        "class TestToy(KVCacheConformance):\n"
        "    adapter = Toy\n"
        "class TestNothing(KVCacheConformance):\n"
        "    pass\n"
        "class TestNonsense(KVCacheConformance):\n"
        "    adapter = int\n"
    )

    code, out = run(bare, "-k", "interface", suite="test_mine")

    assert code == 1, out
    assert "1 passed" in out
    assert "set `adapter = MyAdapter` in TestNothing" in out
    assert "<class 'int'> is not a KVCacheAdapter, which TestNonsense tests" in out


def test_profiles(bare: Path) -> None:
    """The named profiles are there when they are asked for, and say how much is looked for."""
    arguments = ("-v", "--hypothesis-profile=pagedkv-dev", "--pagedkv-adapter=toys:Toy", "-k", "interface")
    code, out = run(bare, *arguments)

    assert code == 0, out
    assert "hypothesis profile 'pagedkv-dev'" in out

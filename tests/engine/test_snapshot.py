"""What a snapshot says, against the engine itself."""

import gc
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.engine import SECTIONS, Engine
from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.live import ask
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import toy_engine

LETTERS = {"free": ".", "cached_idle": "c", "in_use": "u", "shared": "s", "deferred": "d", "paging_in": "p"}


def long(num_tokens: int, **settings: Any) -> SamplingParams:
    """A request that goes on for so many tokens."""
    return SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True, **settings)


def test_sections_are_those_asked_for() -> None:
    """And what is always there; unknown ones are refused with the known ones."""
    engine, _ = toy_engine()
    always = {"schema_version", "time_ns", "num_waiting", "num_running", "step_in_flight"}

    assert set(engine.snapshot()) == always | set(SECTIONS) - {"usage", "tables"}
    assert set(engine.snapshot(("pool", "tables"))) == always | {"pool", "tables"}
    assert set(engine.snapshot(())) == always
    with pytest.raises(InvalidRequest, match="no section 'pools'; there are config, pool"):
        engine.snapshot(("pools",))


@settings(max_examples=40, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=20), min_size=1, max_size=12),
    num_steps=st.integers(0, 12),
    n=st.integers(1, 3),
)
def test_states_are_what_the_tables_say(prompts: list[list[int]], num_steps: int, n: int) -> None:
    """Each block has the state that counting its owners gives, whatever was run."""
    engine, _ = toy_engine(num_blocks=24, max_running=6)
    for prompt in prompts:
        engine.add_request(prompt, SamplingParams(n=n, seed=1, max_tokens=8, ignore_eos=True))
    for _ in range(num_steps):
        engine.step()
    found = engine.snapshot(SECTIONS)
    json.dumps(found, allow_nan=False)
    cache = engine.scheduler.cache
    owners = Counter(block for each in found["tables"] for block in each["blocks"])
    cached = cache.pool.cached_mask()
    expected = "".join(
        ("u" if owners[block] == 1 else "s") if block in owners else "c" if cached[block] else "."
        for block in range(24)
    )
    counts = Counter(expected)

    assert found["blocks"]["states"] == expected
    assert found["pool"]["num_by_state"] == {name: counts[letter] for name, letter in LETTERS.items()}
    assert found["usage"]["num_by_state"] == found["pool"]["num_by_state"]
    assert found["usage"]["internal_ratio"] == cache.internal_fragmentation()
    assert found["pool"]["fragmentation"]["num_free_runs"] == cache.fragmentation().num_free_runs
    assert found["blocks"]["num_by_ref_count"] == {
        str(number): count for number, count in sorted(Counter(owners.values()).items())
    }
    assert [(each["seq_id"], each["blocks"]) for each in found["tables"]] == [
        (seq_id, cache.block_table(seq_id).tolist()) for seq_id in cache.seq_ids()
    ]
    assert found["prefix_cache"]["num_idle"] == counts["c"]


@settings(max_examples=40, deadline=None)
@given(prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=8))
def test_the_tree_is_that_of_the_prompts(prompts: list[list[int]]) -> None:
    """Depth, number of blocks, and what sharing saves, counted by hand."""
    engine, _ = toy_engine(num_blocks=200, block_size=2, max_running=8)
    for prompt in prompts:
        engine.add_request(prompt, long(1))
    with engine_in_a_step(engine):
        found = engine.snapshot(("prefix_cache", "tables", "blocks"))
    tree = {tuple(each[: 2 * i]) for each in prompts for i in range(1, len(each) // 2 + 1)}
    owners = Counter(block for each in found["tables"] for block in each["blocks"])
    cache = found["prefix_cache"]

    assert cache["num_blocks"] == len(tree)
    assert cache["max_depth"] == max((len(path) // 2 for path in tree), default=0)
    assert sum(each["num_blocks_saved"] for each in cache["shared_prefixes"]) == sum(
        count - 1 for count in owners.values() if count > 1
    )
    assert all(each["depth"] >= each["num_blocks"] for each in cache["shared_prefixes"])
    assert cache["num_nodes"] <= max(1, 2 * len(prompts))


class engine_in_a_step:  # noqa: N801 - reads as a clause
    """An engine between scheduling a step and committing it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> None:
        self.step = self.engine.scheduler.schedule()

    def __exit__(self, *_: object) -> None:
        self.engine.scheduler.fail(self.step)


def test_idle_blocks_are_told_in_the_order_in_which_they_go() -> None:
    """What is evicted next is what the next allocations take."""
    engine, _ = toy_engine(num_blocks=8, block_size=2)
    for token in (1, 2, 3):
        engine.generate([[token] * 4], long(1))
    idle = engine.snapshot(("prefix_cache",))["prefix_cache"]["idle"]
    pool = engine.scheduler.cache.pool
    taken = [int(block) for block in pool.copied().allocate(8)]
    cached = [block for block in taken if pool.cached_mask()[block]]

    assert idle["next_evicted"] == cached[:8]
    assert idle["last_evicted"] == cached[::-1][:8]
    assert taken[idle["num_free_before"]] == cached[0]


def test_a_copy_does_not_change_with_the_engine() -> None:
    """What was copied is shown as it was, however much happened since."""
    engine, _ = toy_engine(num_blocks=32)
    engine.add_request([1] * 9, long(20))
    for _ in range(3):
        engine.step()
    sections = tuple(name for name in SECTIONS if name != "device_memory")
    before, show = engine.snapshot(sections), engine._observer.copied(sections)
    engine.add_request([1] * 9, long(20))
    for _ in range(9):
        engine.step()

    assert show() == before
    assert engine.snapshot(sections) != before
    engine.scheduler.cache.check_integrity()


def test_who_waits_is_told_why() -> None:
    """In the order of the queue, with the reason of the last look."""
    engine, _ = toy_engine(num_blocks=8, block_size=4, max_running=2, max_overtakes=1)
    for length in (8, 8, 4, 4, 4):
        engine.add_request([length] * length, long(8))
    queue = engine.snapshot(("scheduler",))["scheduler"]["queue"]
    assert {each["why_held"] for each in queue} == {"its turn has not come: those before it begin first"}

    engine.step()
    chosen = engine.snapshot(("scheduler",))["scheduler"]
    reasons = [each["why_held"] for each in chosen["queue"]]

    assert [each["request_id"] for each in chosen["queue"]] == [2, 3, 4]
    assert reasons[0] == "2 sequences run, 1 more would be above 2"
    assert reasons[1].endswith("nobody behind it begins before it")
    assert chosen["limits"]["num_sequences"] == 2
    assert chosen["steps"][-1]["batch_size"] == chosen["mean_recent_batch"] == 2
    assert chosen["num_not_listed"] == 0


def test_steps_and_seconds_are_remembered() -> None:
    """The last 64 steps, and a mark each second of the engine's clock."""
    engine, model = toy_engine(max_model_len=None)
    engine.add_request([1, 2], long(100))
    for step in range(70):
        model.before = lambda _, step=step: model.clock.advance(step * 10**7)
        engine.step()
    found = engine.snapshot(("scheduler", "history"))
    times = np.array([each["time_ns"] for each in found["history"]])

    assert [round(each["duration_ms"]) for each in found["scheduler"]["steps"]] == [
        1 + 10 * step for step in range(6, 70)
    ]
    assert len(times) > 10
    assert (np.diff(times) >= 10**9).all()
    assert found["history"][-1]["num_generated_tokens"] > found["history"][0]["num_generated_tokens"]


def test_findings_are_of_the_last_steps(tmp_path: Path) -> None:
    """What detectors say of an engine that others can look at; with small blocks it is healthy."""
    told = {}
    for block_size in (64, 4):
        engine, _ = toy_engine(
            num_blocks=512 // block_size, block_size=block_size, debug_socket=tmp_path / str(block_size)
        )
        for number in range(6):
            engine.add_request([1 + number, 2], long(20))
        while engine.has_unfinished:
            engine.step()
        told[block_size] = engine.snapshot(("findings",))["findings"]
        engine.close()

    assert [each["pitfall"] for each in told[64]] == ["fragmentation"]
    assert told[64][0]["advice"][0]["change"].startswith("block_size=16")
    assert told[4] == []
    assert toy_engine()[0].snapshot(("findings",))["findings"] is None


def test_gpu_memory_is_told_where_torch_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the devices that have memory; torch is not loaded for it."""

    class cuda:  # noqa: N801 - as torch has it
        is_initialized = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        memory_reserved = staticmethod(lambda index: 300 * index)
        memory_allocated = staticmethod(lambda index: 200 * index)
        mem_get_info = staticmethod(lambda _: (600, 1000))
        get_device_name = staticmethod(lambda index: f"GPU {index}")

    engine, _ = toy_engine()
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert engine.snapshot()["device_memory"] is None
    monkeypatch.setitem(__import__("sys").modules, "torch", type("torch", (), {"cuda": cuda}))
    assert engine.snapshot()["device_memory"] == [
        {
            "device": 1,
            "name": "GPU 1",
            "allocated_bytes": 200,
            "reserved_bytes": 300,
            "free_bytes": 600,
            "total_bytes": 1000,
        }
    ]


@pytest.fixture
def socket_path() -> Any:
    """A short path."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pkv-") as folder:
        yield Path(folder) / "s"


def test_an_engine_answers_while_it_works_and_while_it_does_not(socket_path: Path) -> None:
    """Every answer is sound: what its sections say of one moment fits together."""
    engine, _ = toy_engine(num_blocks=64, max_model_len=None, debug_socket=socket_path, max_running=8)
    assert ask(socket_path)["num_running"] == 0
    done, answers = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            answers.append(ask(socket_path, SECTIONS))

    looker = threading.Thread(target=look)
    looker.start()
    while len(answers) < 30:
        if not engine.has_unfinished:
            for token in range(12):
                engine.add_request([token] * 9, long(20))
        engine.step()
    done.set()
    looker.join()
    engine.close()

    assert not socket_path.exists()
    assert len({each["time_ns"] for each in answers}) > 1
    for each in answers:
        num_held = len({block for table in each["tables"] for block in table["blocks"]})
        states = each["pool"]["num_by_state"]
        running = [one for one in each["requests"] if one["status"] != "waiting"]
        assert states["in_use"] + states["shared"] == num_held == 64 - each["pool"]["num_free"]
        assert len(running) == each["num_running"]
        assert len(each["scheduler"]["queue"]) == each["num_waiting"] == each["stats"]["num_waiting"]


def test_a_step_in_flight_can_be_looked_at(socket_path: Path) -> None:
    """A model that takes its time, or hangs, is just when somebody wants to know."""
    engine, model = toy_engine(debug_socket=socket_path)
    seen: list[Any] = []
    model.before = lambda _: seen.append(ask(socket_path, ("requests",)))
    engine.generate([[1, 2, 3]], long(2))
    engine.close()

    assert [each["step_in_flight"] for each in seen] == [1, 2]


def test_an_unused_engine_goes_with_its_socket(socket_path: Path) -> None:
    """The server does not keep it alive."""
    engine, _ = toy_engine(debug_socket=socket_path)
    assert ask(socket_path)["num_running"] == 0
    del engine, _
    gc.collect()

    assert not socket_path.exists()


def test_a_socket_is_had_as_it_was_asked_for(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable too; and a path that is taken is an error of the engine that asks."""
    monkeypatch.setenv("PAGEDKV_DEBUG_SOCKET", str(socket_path.parent))
    engine, _ = toy_engine(debug_socket=None)
    assert engine.live.socket_path == socket_path.parent / f"engine-{os.getpid()}.sock"
    with pytest.raises(ConfigError, match="answers there"):
        toy_engine(debug_socket=engine.live.socket_path)
    engine.close()

    assert toy_engine()[0].live.socket_path is None

"""An engine whose pool is a quarter of what it works on says the same as one that has room for everything."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from pagedkv.block_ids import Int64s
from pagedkv.config import CacheConfig, OffloadConfig
from pagedkv.engine import Engine
from pagedkv.errors import ConfigError
from pagedkv.offload.costs import PrefillSpeed
from tests.engine.pretrained.conftest import BLOCK_SIZE, token_ids
from tests.engine.pretrained.offload.conftest import (
    PARAMS,
    RATES,
    Talks,
    TieredEngine,
    check_home,
    num_threads,
    params,
    run_turns,
)
from tests.offload.storage.faulty_files import FaultyFiles

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lru": ({}, {"prefetch_blocks": 0}),
    "lru, prefetch": ({"max_running": 4}, {}),
    "arc, chunks": ({"max_batch_tokens": 24}, {"policy": "arc"}),
    "fifo, one thread": ({"max_running": 4}, {"policy": "fifo", "io_threads": 1, "queue_depth": 2}),
    "in steps": ({"max_running": 4, "batch_period_ms": 2.0}, {"io_streams": 0, "deferred_events": False}),
    "page cache": ({"max_chunk_tokens": 6}, {"direct_io": False, "prefetch_blocks": 8}),
}
"""Of the scheduler, and of the tiers."""


@pytest.mark.parametrize(
    ("setting", "is_faulty"),
    [
        ("lru, prefetch", False),
        ("arc, chunks", True),
        ("fifo, one thread", True),
        ("in steps", False),
        *(
            pytest.param(setting, is_faulty, marks=pytest.mark.heavy)
            for setting in SETTINGS
            for is_faulty in (False, True)
        ),
    ],
)
def test_same_tokens(
    setting: str,
    is_faulty: bool,
    tiered: TieredEngine,
    talks: Talks,
    record_property: Callable[[str, object], None],
) -> None:
    """Greedily, sampled, with several samples and with beams; with pages from both tiers."""
    scheduler, offload = SETTINGS[setting]
    files = FaultyFiles(seed=len(setting))
    engine = tiered(num_blocks=talks.num_blocks // 4, files=files, scheduler=scheduler, **offload)
    files.rates = RATES if is_faulty else {}
    assert run_turns(engine, talks) == talks.said

    stats = engine.stats().offload
    record_property("faults", str(files.counts))
    record_property("stats", str(stats))
    assert stats.num_page_ins > 20
    assert stats.num_from_file > 0
    if "max_running" in scheduler:  # so that there are requests whose turn has not come
        assert stats.num_prefetched > 0
    if offload.get("prefetch_blocks") == 0:
        assert stats.num_prefetched == 0
    assert bool(files.counts) == is_faulty
    assert any(stats.num_errors.values()) == is_faulty
    check_home(engine)


@pytest.mark.parametrize(
    "seeds", [range(1, 2), pytest.param(range(200), marks=pytest.mark.heavy)], ids=["few", "many"]
)
def test_in_a_bad_hour(
    seeds: range, tiered: TieredEngine, talks: Talks, record_property: Callable[[str, object], None]
) -> None:
    """Requests are preempted, aborted and interrupted, steps and the disk fail: all others say the same."""
    total: Counter[str] = Counter()
    for seed in seeds:
        happened = bad_hour(seed, tiered, talks)
        assert happened["page outs"] > 0, seed
        total += happened
    for name, number in total.items():
        record_property(name, number)
    assert total["aborted"] > 0
    if len(seeds) > 1:
        events = ("failed", "interrupted", "preempted", "page ins", "came not", "gave up")
        assert min(total[name] for name in events) > 0
        assert {fault.name for fault in RATES} <= total.keys()


def bad_hour(seed: int, tiered: TieredEngine, talks: Talks) -> Counter[str]:
    """One engine with settings and faults of this seed; what happened."""
    rng = random.Random(seed)  # noqa: S311
    files = FaultyFiles(seed)
    engine = tiered(
        num_blocks=talks.num_blocks // 4,
        files=files,
        num_slots=rng.randrange(4, 40),
        scheduler={
            "max_running": rng.choice([4, 16, 64]),
            "max_batch_tokens": rng.choice([64, 96, 2048]),
            "policy": rng.choice(["fcfs", "lifo", "priority"]),
        },
        policy=rng.choice(["lru", "arc", "fifo"]),
        prefetch_blocks=rng.choice([0, 8, 64]),
        io_threads=rng.randrange(1, 4),
        queue_depth=rng.choice([1, 2, 32]),
        page_in_timeout_ms=rng.choice([0.0, 1.0, 2000.0]),
    )
    files.rates = {fault: rate * rng.choice([0, 1, 3]) for fault, rate in RATES.items()}
    happened: Counter[str] = Counter()
    fail_some_steps(engine, rng, happened)
    interrupt_some_stores(engine, rng, happened)
    for asked, said in zip(talks.asked, talks.said, strict=True):
        assert disturbed(engine, asked, rng, happened) == dict(enumerate(said)), seed
    check_home(engine)
    stats = engine.stats()
    engine.close()
    happened.update({fault.name: number for fault, number in files.counts.items()})
    happened["preempted"] = stats.num_preemptions
    happened["page outs"] = stats.offload.num_page_outs
    happened["page ins"] = stats.offload.num_page_ins
    happened["came not"] = stats.offload.num_failed
    happened["gave up"] = stats.offload.num_gave_up
    return happened


def fail_some_steps(engine: Engine, rng: random.Random, happened: Counter[str]) -> None:
    """The device is gone now and then, before or behind its work."""
    execute = engine._executor.execute

    def fail(when: str) -> None:
        if rng.random() < 0.04:
            happened["failed"] += 1
            raise OSError(5, when)

    def executed(step: Any) -> Any:
        fail("before")
        sampled = execute(step)
        fail("behind")
        return sampled

    engine._executor.execute = executed


def interrupt_some_stores(engine: Engine, rng: random.Random, happened: Counter[str]) -> None:
    """Somebody presses Ctrl-C now and then, while blocks are copied to the host."""
    mover = engine.scheduler.cache.tiers._mover
    store = mover.store

    def stored(blocks: Int64s, slots: Int64s) -> None:
        store(blocks, slots)
        if rng.random() < 0.04:
            happened["interrupted"] += 1
            raise KeyboardInterrupt

    mover.store = stored


def disturbed(
    engine: Engine, asked: list[list[int]], rng: random.Random, happened: Counter[str]
) -> dict[int, list[list[int]]]:
    """Ask all of this, and some twice, which are aborted on the way; what was said to the others."""
    live = {engine.add_request(prompt, params()[i], priority=i % 3): i for i, prompt in enumerate(asked)}
    doomed = [
        engine.add_request(rng.choice(asked), rng.choice(PARAMS), request_id=f"doomed {i}") for i in range(4)
    ]
    found: dict[int, list[list[int]]] = {}
    for _ in range(100_000):
        try:
            outputs = engine.step()
        except (OSError, KeyboardInterrupt):
            continue
        found |= {live[out.request_id]: token_ids([out])[0] for out in outputs if out.request_id in live}
        ended = {out.request_id for out in outputs}
        doomed = [each for each in doomed if each not in ended]
        if doomed and rng.random() < 0.2:
            engine.abort(doomed.pop(rng.randrange(len(doomed))))
            happened["aborted"] += 1
        if not engine.has_unfinished:
            return found
        if not outputs:
            engine.scheduler.cache.tiers.wait(0.0001)
    raise AssertionError(f"{len(engine.scheduler.requests)} requests do not end")


def test_costs_decide(tiered: TieredEngine, talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where computing again takes no time, blocks are kept as pages, and none of them comes back."""
    monkeypatch.setattr(PrefillSpeed, "recompute_ns", lambda *_: 0)
    engine = tiered(num_blocks=talks.num_blocks // 4)
    assert run_turns(engine, talks) == talks.said
    stats = engine.stats().offload
    assert stats.num_page_outs > 100
    assert stats.num_page_ins == 0
    check_home(engine)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"offload": "lots"}, r"offload is 'lots'; it must be an OffloadConfig"),
        ({"tensor_parallel_size": 2}, "several processes share the model"),
        ({"cache": CacheConfig(num_blocks=8, prefix_caching=False)}, "prefix_caching is off"),
        ({"offload": OffloadConfig(nvme_bytes=1 << 20)}, "nvme_bytes is 1048576 and nvme_path is None"),
        (
            {"offload": OffloadConfig(pinned_bytes=4095)},
            r"4095\) holds no page: one of 1024 bytes takes 4096",
        ),
        (
            {"offload": OffloadConfig(pinned_bytes=8192, nvme_path="/nowhere", nvme_bytes=4096)},
            "nvme_path /nowhere cannot be used",
        ),
    ],
    ids=[
        "type",
        "tensor parallel",
        "no prefix caching",
        "bytes without path",
        "less than a page",
        "no folder",
    ],
)
def test_refusals(change: dict[str, Any], says: str, folder_of: Callable[[str], Path]) -> None:
    """What cannot work is said before anything runs, with the numbers; no thread is left."""
    before = num_threads()
    asked: dict[str, Any] = {
        "cache": CacheConfig(num_blocks=8, block_size=BLOCK_SIZE),
        "offload": OffloadConfig(pinned_bytes=1 << 20),
    }
    with pytest.raises(ConfigError, match=says):
        Engine.from_pretrained(folder_of("llama"), device="cpu", **(asked | change))
    assert num_threads() == before

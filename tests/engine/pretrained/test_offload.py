"""An engine whose pool is a quarter of what it works on says the same as one that has room for everything."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

pytest.importorskip("transformers")

from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.errors import ConfigError, InvalidLogits
from pagedkv.offload.costs import PrefillSpeed
from pagedkv.offload.storage import bandwidth
from pagedkv.offload.storage.cpu import CpuCopier
from pagedkv.offload.storage.page_file import PageFile
from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import BLOCK_SIZE, prompts, token_ids
from tests.offload.storage.faulty_files import FaultyFiles, FileFault

SLOT_BYTES = 4096
NUM_TALKS, NUM_TURNS, COUNT = 12, 3, 8
AMPLE = 600
PARAMS = (
    SamplingParams(max_tokens=COUNT, temperature=0.0),
    SamplingParams(max_tokens=COUNT, seed=3),
    SamplingParams(max_tokens=COUNT, n=3, seed=4),
    SamplingParams(max_tokens=COUNT, beam_width=3, n=2),
)
"""Talks take turns at these."""
RATES: Mapping[FileFault, float] = {
    FileFault.NO_SPACE: 0.05,
    FileFault.IO_ERROR: 0.05,
    FileFault.DENIED: 0.03,
    FileFault.INTERRUPTED: 0.05,
    FileFault.SHORT: 0.1,
    FileFault.FLIPPED_BIT: 0.1,
    FileFault.LOST_WRITE: 0.05,
    FileFault.TRUNCATED: 0.02,
    FileFault.DELETED: 0.01,
    FileFault.SLOW: 0.1,
}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lru": ({}, {"prefetch_blocks": 0}),
    "lru, prefetch": ({"max_running": 4}, {}),
    "arc, chunks": ({"max_batch_tokens": 24}, {"policy": "arc"}),
    "fifo, one thread": ({"max_running": 4}, {"policy": "fifo", "io_threads": 1, "queue_depth": 2}),
    "page cache": ({"max_chunk_tokens": 6}, {"direct_io": False, "prefetch_blocks": 8}),
}
"""Of the scheduler, and of the tiers."""


class Talks(NamedTuple):
    """What is asked and what an engine with room for everything says, turn by turn.

    Attributes:
        asked: `[turn][talk]` the tokens of the talk until then.
        said: `[turn][talk]` the tokens of each completion.
        num_blocks: blocks that hold all of it.
    """

    asked: list[list[list[int]]]
    said: list[list[list[list[int]]]]
    num_blocks: int


class TieredEngine(Protocol):
    """Makes engines."""

    def __call__(
        self,
        *,
        num_blocks: int,
        files: FaultyFiles | None = None,
        scheduler: dict[str, Any] | None = None,
        num_slots: int = 16,
        **offload: Any,
    ) -> Engine:
        """An engine over so many blocks, slots of host memory, and a file."""


def new_words(seed: int) -> list[list[int]]:
    """What comes new in each talk."""
    return prompts([10 + i % 5 for i in range(NUM_TALKS)], seed)


@pytest.fixture(scope="module")
def talks(folder_of: Callable[[str], Path]) -> Talks:
    """Talks that begin alike in three groups, and go on from what was said."""
    openings = prompts([22, 27, 8], seed=5)
    asked, said = [], []
    known = [openings[i % 3] for i in range(NUM_TALKS)]
    cache = CacheConfig(num_blocks=AMPLE, block_size=BLOCK_SIZE)
    with Engine.from_pretrained(folder_of("llama"), cache=cache, device="cpu") as engine:
        for turn in range(NUM_TURNS):
            asked.append([[*a, *b] for a, b in zip(known, new_words(turn), strict=True)])
            said.append(token_ids(engine.generate(asked[-1], params())))
            known = [[*a, *b[0]] for a, b in zip(asked[-1], said[-1], strict=True)]
        num_blocks = engine.scheduler.cache.pool.num_evictable  # of all that was said, nothing was evicted
        assert num_blocks < AMPLE // 2
    assert len({token for turn in said for talk in turn for each in talk for token in each}) > 100
    return Talks(asked, said, num_blocks)


def params() -> list[SamplingParams]:
    """Of each talk."""
    return [PARAMS[i % len(PARAMS)] for i in range(NUM_TALKS)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the file goes; nothing is left there, and no thread."""
    before = threading.active_count()
    yield tmp_path
    assert not list(tmp_path.iterdir())
    assert threading.active_count() == before


@pytest.fixture
def tiered(
    folder_of: Callable[[str], Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TieredEngine]:
    """Engines over tiers, for which pages are always worth the way."""
    monkeypatch.setattr(PrefillSpeed, "observe", lambda *_: None)
    monkeypatch.setattr(bandwidth, "_COPY_S", 0.0)
    monkeypatch.setattr(bandwidth, "_FILE_S", 0.0)
    engines: list[Engine] = []

    def make(
        *,
        num_blocks: int,
        files: FaultyFiles | None = None,
        scheduler: dict[str, Any] | None = None,
        num_slots: int = 16,
        **offload: Any,
    ) -> Engine:
        monkeypatch.setattr("pagedkv.offload.storage.mover.FileLayer", lambda: files or FaultyFiles())
        engine = Engine.from_pretrained(
            folder_of("llama"),
            cache=CacheConfig(num_blocks=num_blocks, block_size=BLOCK_SIZE),
            scheduler=SchedulerConfig(**(scheduler or {})),
            offload=OffloadConfig(
                pinned_bytes=num_slots * SLOT_BYTES, nvme_path=folder, nvme_bytes=400 * SLOT_BYTES, **offload
            ),
            device="cpu",
        )
        for layer in engine._executor.packed.store.layers.tensors:
            layer.fill_(float("nan"))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def check_home(engine: Engine) -> None:
    """Nothing is on its way any more, and every block, slot and place is home."""
    cache = engine.scheduler.cache
    tiers = cache.tiers
    for _ in range(200):
        cache.poll_page_ins()
        if not (tiers.num_rising or tiers.num_spilling):
            break
        tiers.wait(0.1)
    cache.check_integrity()
    assert (tiers.num_rising, tiers.num_spilling) == (0, 0)
    assert cache.pool.num_free == cache.pool.num_blocks
    cache.reset_prefix_cache()
    cache.check_integrity()
    assert tiers.num_kept == 0


def run_turns(engine: Engine, talks: Talks) -> list[list[list[list[int]]]]:
    """Ask everything, turn by turn."""
    return [token_ids(engine.generate(asked, params())) for asked in talks.asked]


@pytest.mark.parametrize(
    ("setting", "is_faulty"),
    [
        *((setting, True) for setting in SETTINGS),
        ("lru, prefetch", False),
        *(pytest.param(each, False, marks=pytest.mark.heavy) for each in SETTINGS if each != "lru, prefetch"),
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
    "seeds", [range(2), pytest.param(range(2, 200), marks=pytest.mark.heavy)], ids=["few", "many"]
)
def test_in_a_bad_hour(
    seeds: range, tiered: TieredEngine, talks: Talks, record_property: Callable[[str, object], None]
) -> None:
    """Requests are preempted and aborted, steps and the disk fail: every other request says the same."""
    total: Counter[str] = Counter()
    for seed in seeds:
        happened = bad_hour(seed, tiered, talks)
        assert happened["page outs"] > 0, seed
        total += happened
    for name, number in total.items():
        record_property(name, number)
    assert min(total[name] for name in ("aborted", "failed", "preempted", "page ins", "IO_ERROR")) > 0


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
        except OSError:
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
    """Where nothing takes longer than computing again, all pages come, and where everything does, none."""
    for recompute_ns, comes in ((10**15, True), (0, False)):
        monkeypatch.setattr(PrefillSpeed, "recompute_ns", lambda *_, ns=recompute_ns: ns)
        engine = tiered(num_blocks=talks.num_blocks // 4)
        assert run_turns(engine, talks) == talks.said
        stats = engine.stats().offload
        assert stats.num_page_outs > 100
        assert (stats.num_page_ins > 20) == comes
        assert (stats.num_page_ins == 0) != comes
        check_home(engine)
        engine.close()


def test_pages_that_hang(tiered: TieredEngine, talks: Talks) -> None:
    """Requests whose pages never come begin without them, when they have waited long enough."""
    files = FaultyFiles(seed=1, slow_s=60.0)
    engine = tiered(
        num_blocks=talks.num_blocks // 4, files=files, num_slots=24, queue_depth=4, page_in_timeout_ms=5.0
    )
    first = token_ids(engine.generate(talks.asked[0], params()))
    finish_spills(engine)
    files.rates = {FileFault.SLOW: 1.0}
    rest = [token_ids(engine.generate(asked, params())) for asked in talks.asked[1:]]
    files.heal()
    assert [first, *rest] == talks.said
    assert engine.stats().offload.num_gave_up > 0
    check_home(engine)


def test_close_on_the_way(tiered: TieredEngine, talks: Talks) -> None:
    """An engine that is closed while pages are on their way leaves nothing behind; see `folder`."""
    files = FaultyFiles(seed=1, slow_s=0.2)
    engine = tiered(num_blocks=talks.num_blocks // 4, files=files, num_slots=24)
    for asked in talks.asked[:2]:
        engine.generate(asked, params())
    finish_spills(engine)
    files.rates = {FileFault.SLOW: 1.0}
    for prompt in talks.asked[2]:
        engine.add_request(prompt, PARAMS[0])
    tiers = engine.scheduler.cache.tiers
    while engine.has_unfinished and not tiers.num_fetching:
        engine.step()
    assert tiers.num_fetching
    engine.close()


def finish_spills(engine: Engine) -> None:
    """Let the file have what was chosen for it."""
    tiers = engine.scheduler.cache.tiers
    for _ in range(100):
        engine.scheduler.cache.poll_page_ins()
        if not tiers.num_spilling:
            break
        tiers.wait(0.1)


def load_the_next_slot(copier: CpuCopier, operation: int, slots: Any, blocks: Any) -> None:
    """Each block gets the page of the next slot."""
    _load(copier, operation, (slots + 1) % len(copier._slots), blocks)


def load_nothing(copier: CpuCopier, operation: int, slots: Any, blocks: Any) -> None:
    """Loads are told to have ended, and bring nothing."""
    _load(copier, operation, slots[:0], blocks[:0])


def store_the_wrong_block(copier: CpuCopier, blocks: Any, slots: Any) -> None:
    """The first block goes to all slots."""
    _store(copier, blocks[:1].repeat(len(blocks)), slots)


_load, _store = CpuCopier.load, CpuCopier.store


@pytest.mark.parametrize(
    ("owner", "name", "fault", "rates"),
    [
        (CpuCopier, "load", load_the_next_slot, {}),
        (CpuCopier, "load", load_nothing, {}),
        (CpuCopier, "store", store_the_wrong_block, {}),
        (PageFile, "_checksum", lambda *_: 0, {FileFault.FLIPPED_BIT: 1.0, FileFault.LOST_WRITE: 0.5}),
    ],
    ids=["next slot", "nothing", "wrong block", "no checksum"],
)
def test_a_fault_shows(
    owner: type,
    name: str,
    fault: Callable[..., Any],
    rates: Mapping[FileFault, float],
    tiered: TieredEngine,
    talks: Talks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control: with wrong bytes in its pages an engine says something else."""
    monkeypatch.setattr(owner, name, fault)
    files = FaultyFiles(seed=1)
    engine = tiered(num_blocks=talks.num_blocks // 4, files=files)
    files.rates = rates
    with suppress(InvalidLogits):  # some bits of a float make it NaN, which shows, too
        assert run_turns(engine, talks) != talks.said


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
            {"offload": OffloadConfig(pinned_bytes=4096, nvme_path="/nowhere", nvme_bytes=4096)},
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
    before = threading.active_count()
    asked: dict[str, Any] = {
        "cache": CacheConfig(num_blocks=8, block_size=BLOCK_SIZE),
        "offload": OffloadConfig(pinned_bytes=1 << 20),
    }
    with pytest.raises(ConfigError, match=says):
        Engine.from_pretrained(folder_of("llama"), device="cpu", **(asked | change))
    assert threading.active_count() == before

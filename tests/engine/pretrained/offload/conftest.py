"""Talks of several turns with engines whose pool is a quarter of what they work on, over tiers below it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.offload.costs import PrefillSpeed
from pagedkv.offload.storage import bandwidth
from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import BLOCK_SIZE, prompts, token_ids
from tests.offload.storage.faulty_files import FaultyFiles, FileFault

__all__ = [
    "PARAMS",
    "RATES",
    "Talks",
    "TieredEngine",
    "check_home",
    "finish_spills",
    "params",
    "run_turns",
]

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


@pytest.fixture(scope="session")
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


def num_threads() -> int:
    """Threads of tiers."""
    return sum(thread.name.startswith("pagedkv-") for thread in threading.enumerate())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the file goes; nothing is left there, and no thread."""
    before = num_threads()
    yield tmp_path
    assert not list(tmp_path.iterdir())
    assert num_threads() == before


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


def finish_spills(engine: Engine) -> None:
    """Let the file have what was chosen for it."""
    tiers = engine.scheduler.cache.tiers
    for _ in range(100):
        engine.scheduler.cache.poll_page_ins()
        if not tiers.num_spilling:
            break
        tiers.wait(0.1)

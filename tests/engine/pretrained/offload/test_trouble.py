"""An engine over tiers that hang, end in the middle, or deliver something else."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("transformers")

from pagedkv.errors import InvalidLogits
from pagedkv.offload.storage.cpu import CpuCopier
from pagedkv.offload.storage.page_file import PageFile
from tests.engine.pretrained.conftest import token_ids
from tests.engine.pretrained.offload.conftest import (
    PARAMS,
    Talks,
    TieredEngine,
    check_home,
    finish_spills,
    params,
    run_turns,
)
from tests.offload.storage.faulty_files import FaultyFiles, FileFault


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

"""StorageMover under random programs and faults, beside a dict of what is where."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagedkv import OffloadConfig
from pagedkv.errors import CorruptPage, OffloadError
from pagedkv.offload.storage import StorageMover
from tests.offload.storage.faulty_files import FaultyFiles, FileFault
from tests.offload.storage.stores import block_bytes, ended, fill_block, ids, small_store

NUM_BLOCKS, NUM_SLOTS, NUM_PLACES = 3, 4, 4
PROBE = NUM_BLOCKS
"""A block that slots are loaded into to be looked at."""
HARMLESS = (FileFault.SHORT, FileFault.INTERRUPTED, FileFault.SLOW)
RETRYABLE = (FileFault.IO_ERROR, FileFault.DENIED, FileFault.NO_SPACE)
DESTROYING = (FileFault.FLIPPED_BIT, FileFault.LOST_WRITE, FileFault.TRUNCATED, FileFault.DELETED)

programs = st.lists(
    st.tuples(
        st.sampled_from(["write", "store", "load", "spill", "spill", "fetch", "fetch", "await"]),
        st.integers(0, NUM_BLOCKS - 1),
        st.integers(0, NUM_SLOTS - 1),
        st.integers(0, NUM_PLACES - 1),
    ),
    min_size=10,
    max_size=40,
)
rates = st.dictionaries(st.sampled_from(FileFault), st.sampled_from([0.05, 0.3]), max_size=4)


@dataclass
class Model:
    """What lies where: bytes, or None for what nobody knows."""

    blocks: dict[int, bytes]
    slots: dict[int, bytes | None] = field(default_factory=dict)
    places: dict[int, bytes | None] = field(default_factory=dict)
    busy: set[tuple[str, int]] = field(default_factory=set)
    under_way: dict[int, tuple[str, int, int]] = field(default_factory=dict)


class Program:
    """Runs steps that are possible, and checks what comes of them."""

    def __init__(self, folder: Path, files: FaultyFiles) -> None:
        self.store = small_store(NUM_BLOCKS + 1)
        config = OffloadConfig(pinned_bytes=NUM_SLOTS * 4096, nvme_path=folder, nvme_bytes=NUM_PLACES * 4096)
        self.mover = StorageMover.open(self.store, config, files=files)
        self.files = files
        self.model = Model({i: fill_block(self.store, i, seed=i) for i in range(NUM_BLOCKS)})
        self.num_written = NUM_BLOCKS

    def step(self, kind: str, block: int, slot: int, place: int) -> None:
        """One step, if the copies under way allow it."""
        uses = {
            "write": {("block", block)},
            "store": {("block", block), ("slot", slot)},
            "load": {("block", block), ("slot", slot)},
            "spill": {("slot", slot), ("place", place)},
            "fetch": {("slot", slot), ("place", place)},
            "await": set(),
        }[kind]
        if not uses & self.model.busy:
            getattr(self, f"_{kind}")(block, slot, place, uses)

    def _write(self, block: int, _slot: int, _place: int, _uses: set[tuple[str, int]]) -> None:
        self.num_written += 1
        self.model.blocks[block] = fill_block(self.store, block, seed=self.num_written)

    def _store(self, block: int, slot: int, _place: int, _uses: set[tuple[str, int]]) -> None:
        self.mover.store(ids([block]), ids([slot]))
        self.model.slots[slot] = self.model.blocks[block]

    def _load(self, block: int, slot: int, _place: int, uses: set[tuple[str, int]]) -> None:
        if self.model.slots.get(slot) is not None:
            self._begin(self.mover.load(ids([slot]), ids([block])), "load", slot, block, uses)

    def _spill(self, _block: int, slot: int, place: int, uses: set[tuple[str, int]]) -> None:
        if self.model.slots.get(slot) is not None:
            self._begin(self.mover.spill(slot, place), "spill", slot, place, uses)

    def _fetch(self, _block: int, slot: int, place: int, uses: set[tuple[str, int]]) -> None:
        self._begin(self.mover.fetch(place, slot), "fetch", place, slot, uses)

    def _begin(self, operation: int, kind: str, source: int, target: int, uses: set[tuple[str, int]]) -> None:
        assert operation not in self.model.under_way
        self.model.under_way[operation] = kind, source, target
        self.model.busy |= uses

    def _await(self, *_: object) -> None:
        self.settle()

    def settle(self) -> None:
        """Wait for everything that is under way; each operation is reported once."""
        found = ended(self.mover, len(self.model.under_way)) if self.model.under_way else []
        assert {moved.operation for moved in found} == set(self.model.under_way)
        assert len(found) == len(self.model.under_way)
        for moved in found:
            self._end(*self.model.under_way.pop(moved.operation), moved.error)
        self.model.busy.clear()
        assert not self.mover.poll()
        self.check()

    def _end(self, kind: str, source: int, target: int, error: OffloadError | None) -> None:
        model, faults = self.model, self.files.rates.keys()
        if error is None:
            if kind == "load":
                model.blocks[target] = model.slots[source]
            elif kind == "spill":
                model.places[target] = model.slots[source]
            else:
                model.slots[target] = model.places[source]
                assert model.slots[target] is not None, "a page that nobody wrote was read"
            return
        assert kind != "load"
        if kind == "spill":
            model.places[target] = None
        else:
            if isinstance(error, CorruptPage) and model.places.get(source) is not None:
                assert faults & set(DESTROYING)
            model.slots[target] = None
        if not isinstance(error, CorruptPage):
            assert faults & {*RETRYABLE, FileFault.SHORT, FileFault.INTERRUPTED}

    def check(self) -> None:
        """No block and no slot holds other bytes than it should."""
        for block, data in self.model.blocks.items():
            assert block_bytes(self.store, block) == data
        for slot, data in self.model.slots.items():
            if data is not None:
                self.mover.load(ids([slot]), ids([PROBE]))
                (moved,) = ended(self.mover)
                assert moved.error is None
                assert block_bytes(self.store, PROBE) == data

    def fill(self) -> None:
        """Pages in all slots and places."""
        for i in range(NUM_SLOTS):
            self.step("store", i % NUM_BLOCKS, i, 0)
            self.step("spill", 0, i, i % NUM_PLACES)
        self.settle()


def run(steps: list[tuple[str, int, int, int]], seed: int, chosen: dict[FileFault, float]) -> None:
    """A program in a folder of its own, which is empty afterwards."""
    folder = Path(tempfile.mkdtemp())
    files = FaultyFiles(seed)
    program = Program(folder, files)
    try:
        program.fill()
        files.rates = chosen
        for step in steps:
            program.step(*step)
        program.settle()
    finally:
        program.mover.close()
        left = list(folder.iterdir())
        shutil.rmtree(folder)
    assert not left


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=programs, seed=st.integers(0, 2**32), chosen=rates)
def test_no_wrong_byte_is_delivered(quick_start, steps, seed, chosen):
    """Whatever fails: a page comes back as it was, or there is an error that faults explain."""
    run(steps, seed, chosen)


@pytest.mark.heavy
@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=programs, seed=st.integers(0, 2**32), chosen=rates)
def test_no_wrong_byte_is_delivered_in_long(quick_start, steps, seed, chosen):
    """The same, with thousands of programs."""
    run(steps, seed, chosen)

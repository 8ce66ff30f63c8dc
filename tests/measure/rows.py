"""The rows of the comparison: who does what, what either side includes, and the ratio that is aimed for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from pagedkv import BlockPool
from tests.measure import ours
from tests.measure.prompts import NUM_BLOCKS, decode_prompts
from tests.measure.race import Work

__all__ = ["NOTHING", "OURS", "PEER_OFF", "PEER_ON", "Row", "comparison", "scaling"]

OURS, PEER_ON, PEER_OFF, NOTHING = "ours", "vLLM, caching", "vLLM, no caching", "nothing"

_MAKE = Callable[[], Work]
_SIZES = {"1k": 1_000, "64k": 65_536, "1M": 1_048_576}
_SCALING_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure.

    Attributes:
        name: what is measured.
        sides: makers of the works, by side. A side called `NOTHING` is subtracted from the others.
        note: what is included on either side.
        target_ratio: how many times faster than the better vLLM column ours is meant to be.
        target_us: how long ours may take, where the aim is no ratio.
    """

    name: str
    sides: Mapping[str, _MAKE]
    note: str
    target_ratio: float | None = None
    target_us: float | None = None


def comparison(peer: ModuleType | None) -> list[Row]:
    """All rows; without a peer, only our side of them."""
    return [_without_peer(row) for row in _rows(ours)] if peer is None else _rows(peer)


def scaling() -> list[Row]:
    """The same operations of ours on pools of different sizes."""
    return [
        _by_size("allocate + free 1 block", lambda size: ours.AllocateFree(1, size, 1 << 16)),
        _by_size("allocate + free 64 blocks", lambda size: ours.AllocateFree(64, size, 1 << 14)),
        _by_size("decode step, 256 sequences, evicting", _short_batch),
        _by_size(
            "cold 512-token prompt, evicting",
            lambda size: ours.ColdAdmit(
                as_list=False, evicting=True, num_blocks=size, num_tokens=_SCALING_TOKENS
            ),
        ),
        _by_size(
            "re-admit 512-token prompt, pool full of cached blocks",
            lambda size: ours.Readmit(
                as_list=False, num_blocks=size, num_tokens=_SCALING_TOKENS, full_pool=True
            ),
        ),
    ]


def _by_size(name: str, make: Callable[[int], Work]) -> Row:
    sides = {label: partial(make, size) for label, size in _SIZES.items()}
    return Row(name=name, sides=sides, note="ours alone; the ratio is the largest pool against the smallest")


def _short_batch(num_blocks: int) -> Work:
    prompts = [prompt[:15] for prompt in decode_prompts()]
    return ours.DecodeSteps(num_blocks=num_blocks, prompts=prompts, evicting=True)


def _without_peer(row: Row) -> Row:
    sides = {name: make for name, make in row.sides.items() if name in (OURS, NOTHING)}
    return Row(
        name=row.name, sides=sides, note=row.note, target_ratio=row.target_ratio, target_us=row.target_us
    )


def _rows(peer: ModuleType) -> list[Row]:
    """The rows. Nothing is made here, so a stand-in does for a peer whose sides are then dropped."""
    allocations = [_allocate_free(peer, n, ratio) for n, ratio in ((1, 2), (8, 5), (64, 15), (512, 25))]
    return [*allocations, *_decode(peer), *_prompts(peer), *_whole_pool(peer)]


def _allocate_free(peer: ModuleType, n: int, target_ratio: float) -> Row:
    return Row(
        name=f"allocate + free {n} block{'s' if n > 1 else ''}",
        sides={
            OURS: lambda: ours.AllocateFree(n),
            PEER_ON: lambda: peer.AllocateFree(n, caching=True),
            PEER_OFF: lambda: peer.AllocateFree(n, caching=False),
        },
        note="The bare pools, nothing cached. Ours is first in first out and runs through the whole queue, "
        "with checks for double frees; vLLM hands out again what was freed last, and checks nothing.",
        target_ratio=target_ratio,
    )


def _decode(peer: ModuleType) -> list[Row]:
    peers: dict[str, _MAKE] = {
        PEER_ON: lambda: peer.DecodeSteps(caching=True),
        PEER_OFF: lambda: peer.DecodeSteps(caching=False),
    }
    note = (
        "Mean of 32 steps, 256 sequences of 1024 tokens and more; in each step 16 of them fill a block. "
        "vLLM: allocate_slots(request, 1), the token appended, full blocks hashed and registered; no slot "
        "mapping. Ours: append_batch with slot mapping, copy-on-write guard and registration"
    )

    def row(name: str, make: _MAKE, addition: str) -> Row:
        return Row(
            name=f"decode step, 256 sequences{name}",
            sides={OURS: make, **peers},
            note=f"{note}; {addition}.",
            target_ratio=40,
        )

    return [
        row("", ours.DecodeSteps, "ids and tokens are lists"),
        row(
            ", token array",
            partial(ours.DecodeSteps, as_list=False),
            "tokens are an int32 array",
        ),
        row(
            ", new batch each step",
            partial(ours.DecodeSteps, rotate=True),
            "the batch changes order in every step",
        ),
        row(
            ", ours without caching",
            partial(ours.DecodeSteps, prefix_caching=False),
            "ours registers nothing either",
        ),
    ]


def _prompts(peer: ModuleType) -> list[Row]:
    return [row for as_list in (True, False) for row in _prompt_rows(peer, as_list)]


def _prompt_rows(peer: ModuleType, as_list: bool) -> list[Row]:
    given = "list" if as_list else "array"
    ready = f"vLLM: hashes ready. Ours: all from the tokens, an int {given}."

    def row(name: str, make: _MAKE, peer_make: _MAKE, note: str, target_ratio: float | None) -> Row:
        return Row(
            name=f"{name} ({given})",
            sides={OURS: make, PEER_ON: peer_make},
            note=note,
            target_ratio=target_ratio,
        )

    def warm(name: str, divided: bool) -> Row:
        return row(
            f"hash + look-up of a warm 4096-token prompt{name}",
            partial(ours.WarmLookup, as_list=as_list, divided=divided),
            lambda: peer.WarmLookup(divided=divided),
            "vLLM: sha256 of its blocks and get_computed_blocks, no Request made. Ours: lookup of an "
            f"int {given}. Divided: another cached prompt parts from it at every block.",
            12,
        )

    def cold(name: str, evicting: bool) -> Row:
        return row(
            f"allocate + register + free of a cold 4096-token prompt{name}",
            partial(ours.ColdAdmit, as_list=as_list, evicting=evicting),
            lambda: peer.ColdAdmit(evicting=evicting),
            f"get_computed_blocks + allocate_slots + free against admit + release. {ready}",
            5,
        )

    def readmit(name: str, hashing: bool, note: str, target_ratio: float | None) -> Row:
        return row(
            f"re-admit a freed, cached 4096-token prompt{name}",
            partial(ours.Readmit, as_list=as_list),
            lambda: peer.Readmit(hashing=hashing),
            f"get_computed_blocks + allocate_slots + free against admit + release. {note}",
            target_ratio,
        )

    return [
        warm("", divided=False),
        warm(", divided", divided=True),
        cold("", evicting=False),
        cold(", evicting", evicting=True),
        readmit("", False, ready, 8),
        readmit(", hashing too", True, f"Both from the tokens; ours an int {given}.", None),
    ]


def _whole_pool(peer: ModuleType) -> list[Row]:
    def make_ours() -> object:
        return BlockPool(num_blocks=NUM_BLOCKS)

    def make_peer() -> object:
        return peer.block_pool(caching=True)

    return [
        Row(
            name="build a pool of 100k blocks",
            sides={OURS: lambda: ours.Build(make_ours), PEER_ON: lambda: ours.Build(make_peer)},
            note="The bare pools.",
            target_ratio=50,
        ),
        Row(
            name="build a manager of 100k blocks",
            sides={
                OURS: lambda: ours.Build(ours.block_manager),
                PEER_ON: lambda: ours.Build(peer.cache_manager),
            },
            note="BlockManager against KVCacheManager. Ours also has room for the token of every slot.",
        ),
        Row(
            name="one full garbage collection, added by 100k blocks",
            sides={
                OURS: lambda: ours.Collect(ours.block_manager),
                PEER_ON: lambda: ours.Collect(make_peer),
                NOTHING: lambda: ours.Collect(object),
            },
            note="gc.collect() with the pool alive, less one without it. Everything else is frozen.",
            target_us=100,
        ),
    ]

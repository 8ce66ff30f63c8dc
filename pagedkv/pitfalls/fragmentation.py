"""Fragmentation: memory that holds no token, beyond what paging has to cost."""

import math
from dataclasses import dataclass

import numpy as np

from pagedkv.checks import require_int, require_number
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity
from pagedkv.stats import StatsWindow

__all__ = ["FragmentationThresholds", "detect_fragmentation"]

_PER_MILLION = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentationThresholds:
    """When slots without a token are too many.

    Args:
        fair_block_size: tokens of the blocks that waste is compared with: a sequence wastes half of one in
            the mean, whatever anybody does. With 16 that is 7.5 slots, and kernels are as fast as with
            larger ones.
        excess_ratio: share of the slots in use that are wasted beyond that. Below a fifth nobody would
            notice: prompts differ by more.
        critical_ratio: the share from which on it is critical. At a half, twice as many sequences could run.
        min_use_ratio: share of the pool that is in use. Where half of it is free, nobody needs what is
            wasted.
        min_steps: steps under such use; a look at fewer is chance.

    Raises:
        ConfigError: a number is out of range.
    """

    fair_block_size: int = 16
    excess_ratio: float = 0.2
    critical_ratio: float = 0.5
    min_use_ratio: float = 0.5
    min_steps: int = 16

    def __post_init__(self) -> None:
        for name in ("fair_block_size", "min_steps"):
            require_int(name, getattr(self, name), 1)
        for name in ("excess_ratio", "critical_ratio", "min_use_ratio"):
            require_number(name, getattr(self, name), 0, 1)


@dataclass(frozen=True, slots=True)
class _Waste:
    """Sums over the steps in which the pool was used. Slots are those of blocks in use."""

    num_steps: int
    num_slots: float
    num_wasted: float
    num_sequences: float
    pool_slots: int

    def excess_ratio(self, fair_block_size: int) -> float:
        """Share of the slots that blocks of this size would not waste."""
        return max(0.0, self.num_wasted - self.num_sequences * (fair_block_size - 1) / 2) / self.num_slots

    def ratio_with(self, block_size: int) -> float:
        """Share that would be wasted with blocks of this size."""
        wasted = self.num_sequences * (block_size - 1) / 2
        return wasted / max(1.0, self.num_slots - self.num_wasted + wasted)


def detect_fragmentation(window: StatsWindow, thresholds: FragmentationThresholds) -> Finding | None:
    """A finding if blocks in use hold too few tokens while the pool is short of blocks."""
    waste = _waste(window, thresholds)
    if waste is None:
        return None
    excess = waste.excess_ratio(thresholds.fair_block_size)
    if excess <= thresholds.excess_ratio:
        return None
    size = window.cache.block_size
    ratio = waste.num_wasted / waste.num_slots
    return Finding(
        pitfall=Pitfall.FRAGMENTATION,
        severity=Severity.CRITICAL if excess > thresholds.critical_ratio else Severity.WARNING,
        summary=f"{ratio:.0%} of the memory in use holds no token, with blocks of {size} tokens",
        evidence={
            "wasted_ratio": round(ratio, 4),
            "excess_ratio": round(excess, 4),
            "excess_ratio_threshold": thresholds.excess_ratio,
            "fair_ratio": round(waste.ratio_with(thresholds.fair_block_size), 4),
            "use_ratio": round(waste.num_slots / (waste.num_steps * waste.pool_slots), 4),
            "num_steps": waste.num_steps,
            "slots_per_sequence": round(waste.num_slots / max(1.0, waste.num_sequences), 1),
            "block_size": size,
        },
        advice=_advice(window, waste, ratio, thresholds),
    )


def _waste(window: StatsWindow, thresholds: FragmentationThresholds) -> _Waste | None:
    """What is wasted where the pool is used; None if that is hardly ever so."""
    in_use = window.cache.num_blocks - window["num_free_blocks"]
    pressed = np.flatnonzero(in_use >= thresholds.min_use_ratio * window.cache.num_blocks)
    if len(pressed) < thresholds.min_steps:
        return None
    slots = in_use[pressed] * window.cache.block_size
    return _Waste(
        num_steps=len(pressed),
        num_slots=float(slots.sum()),
        num_wasted=float((slots * window["fragmentation_ppm"][pressed]).sum() / _PER_MILLION),
        num_sequences=float(window["num_sequences"][pressed].sum()),
        pool_slots=window.cache.num_blocks * window.cache.block_size,
    )


def _advice(
    window: StatsWindow, waste: _Waste, ratio: float, thresholds: FragmentationThresholds
) -> tuple[Advice, ...]:
    cache, fair = window.cache, thresholds.fair_block_size
    found = []
    if cache.block_size > fair:
        with_fair = waste.ratio_with(fair)
        room = (1 - with_fair) / max(1e-9, 1 - ratio)
        found.append(
            Advice(
                f"block_size={fair} (now {cache.block_size})",
                f"wasted memory falls from {ratio:.0%} to about {with_fair:.0%}: the same pool holds "
                f"{room:.1f} times the tokens",
            )
        )
    if not cache.prefix_caching:
        found.append(
            Advice(
                "prefix_caching=True (now False)",
                "prompts that begin alike share their full blocks; the partly filled ones stay",
            )
        )
    if (most := _most_running(window)) is not None:
        found.append(
            Advice(
                f"max_running={most}",
                "old sequences finish before new ones begin: fewer preemptions, but each sequence still "
                "wastes as much",
            )
        )
    return tuple(found) or (
        Advice("release every sequence that has ended", "blocks that no live sequence fills come back"),
    )


def _most_running(window: StatsWindow) -> int | None:
    """Sequences that the pool sustains, where some were preempted."""
    if not window.total("num_preempted"):
        return None
    return max(1, math.floor(float(window["num_sequences"].mean()) * 0.75))

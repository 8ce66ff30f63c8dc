"""Precision and recall of the detectors on labelled runs: `python -m tests.measure.pitfall_labels`.

A label is made when the run is: the sick setups of a scenario fall into its pitfall, and into those that it
names besides, because of how they are built; cured ones and healthy ones fall into none. Thresholds were
chosen by the seeds of TUNING, and are judged by those of JUDGING.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from pagedkv.config import CacheConfig, OffloadConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios import SCENARIOS, Setup, run
from pagedkv.scenarios.offload_thrash import questions
from pagedkv.traces import Trace, generate

__all__ = ["HEALTHY", "JUDGING", "TUNING", "Score", "labelled", "score"]

TUNING = (0, 1)
JUDGING = (11, 12, 13, 14)
_SLOTS = 2_400_000
_GIB = 2**30
_PRESETS = {
    "chat": 120,
    "code": 120,
    "agentic": 30,
    "samples": 40,
    "beams": 15,
    "alpaca": 120,
    "sharegpt": 60,
}


def _preset(seed: int, *, name: str) -> Trace:
    return generate(name, num_requests=_PRESETS[name], seed=seed)


def _healthy(name: str) -> Setup:
    """A preset at its own rate, on a device that serves it."""
    block_size = 64 if name == "agentic" else 16
    cache = CacheConfig(num_blocks=_SLOTS // block_size, block_size=block_size)
    return Setup(trace=partial(_preset, name=name), cache=cache)


def _with_tiers(name: str, num_blocks: int, **offload: Any) -> Setup:
    """A preset at its own rate on a small pool, whose evicted blocks come back without anybody's notice."""
    healthy = _healthy(name)
    cache = replace(healthy.cache, num_blocks=num_blocks)
    return replace(healthy, cache=cache, offload=OffloadConfig(**offload))


def _documents(**offload: Any) -> Setup:
    """Questions about documents, of which the device holds half, at a rate that it serves."""
    return Setup(
        trace=partial(questions, rate_per_s=1.0, num_documents=40),
        cache=CacheConfig(num_blocks=3_000, block_size=64),
        offload=OffloadConfig(**offload),
    )


HEALTHY = {
    **{name: _healthy(name) for name in _PRESETS},
    "chat with host memory": _with_tiers("chat", 1_200, pinned_bytes=32 * _GIB),
    "documents with host memory": _documents(pinned_bytes=64 * _GIB),
    "documents with host memory and a file": _documents(pinned_bytes=16 * _GIB, nvme_bytes=128 * _GIB),
}
"""Generator presets that fall into nothing."""


class Label(NamedTuple):
    """A run, and what is to be found in it."""

    name: str
    setup: Setup
    seed: int
    pitfalls: frozenset[Pitfall]


@dataclass(slots=True)
class Score:
    """How often a detector was right.

    Attributes:
        hits: runs with the pitfall in which it was found.
        misses: runs with the pitfall in which it was not.
        false_alarms: runs without it in which it was found.
        quiet: runs without it in which it was not.
    """

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    quiet: int = 0

    def add(self, is_there: bool, is_found: bool) -> None:
        """Count one run."""
        self.hits += is_there and is_found
        self.misses += is_there and not is_found
        self.false_alarms += is_found and not is_there
        self.quiet += not (is_there or is_found)

    @property
    def precision(self) -> float:
        """Of those found, those that were there."""
        return self.hits / max(1, self.hits + self.false_alarms)

    @property
    def recall(self) -> float:
        """Of those that were there, those found."""
        return self.hits / max(1, self.hits + self.misses)


def labelled(seeds: Sequence[int]) -> Iterator[Label]:
    """The set: for each seed every sick setup, every cured one whose label is known, every healthy one."""
    for seed in seeds:
        for scenario in SCENARIOS.values():
            there = scenario.also | {scenario.pitfall}
            for name, setup in scenario.sick.items():
                yield Label(f"{scenario.pitfall} {name}", setup, seed, there)
            for cure in scenario.cures:
                if cure.silences:
                    yield Label(f"{scenario.pitfall} {cure.change}", cure.setup, seed, frozenset())
        for name, setup in HEALTHY.items():
            yield Label(f"healthy {name}", setup, seed, frozenset())


def score(labels: Iterator[Label]) -> tuple[dict[Pitfall, Score], list[str]]:
    """Scores of all detectors, and each mistake in words."""
    scores = {pitfall: Score() for pitfall in SCENARIOS}
    mistakes = []
    for label in labels:
        found = {finding.pitfall for finding in run(label.setup, label.seed).findings}
        for pitfall, counted in scores.items():
            counted.add(pitfall in label.pitfalls, pitfall in found)
        mistakes += [
            f"{label.name}, seed {label.seed}: {each} {'found' if each in found else 'not found'}"
            for each in sorted(found ^ label.pitfalls)
        ]
    return scores, mistakes


def main() -> None:
    """Print the table of the docs."""
    for title, seeds in (("tuning", TUNING), ("judging", JUDGING)):
        labels = list(labelled(seeds))
        scores, mistakes = score(iter(labels))
        print(f"{title}: {len(labels)} runs, seeds {', '.join(map(str, seeds))}\n")
        print("| pitfall | runs with it | precision | recall |\n|---|---|---|---|")
        for pitfall, each in scores.items():
            print(f"| {pitfall} | {each.hits + each.misses} | {each.precision:.3f} | {each.recall:.3f} |")
        print("\n" + "\n".join(mistakes or ["no mistake"]) + "\n")


if __name__ == "__main__":
    main()

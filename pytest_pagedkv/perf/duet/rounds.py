"""One pair of processes: base and head take turns every few milliseconds, benchmark after benchmark."""

import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pytest_pagedkv.baselines.duet import Pair
from pytest_pagedkv.perf.duet.channel import PROTOCOL
from pytest_pagedkv.perf.duet.process import DuetError, TimingProcess

__all__ = ["NUM_ROUNDS", "PairRun", "Ready", "Sampled", "run_pair"]

NUM_ROUNDS = 30
_NUM_VISITS = 3  # every benchmark is set up anew for each third of its rounds
_MORE_VISITS = 4  # for those of which 30 rounds do not say enough
_ENOUGH = 0.45  # of the threshold: the half width of the interval that says enough
_BATCH_NS = 3e6
_MIN_ROUNDS = 12
_BUDGET_NS = 5e9  # of one benchmark in a pair: slow ones get fewer rounds
_WARM_NS = 20e6  # a call that takes longer needs none before it to be warm
_MAX_REJECTED = 3

Progress = Callable[[int, int], None]
"""Called with visits done and visits in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a process can time.

    Attributes:
        benchmarks: metric, threshold and hash of the source, by key.
        broken: files that cannot be imported, and the traceback.
    """

    benchmarks: dict[str, dict[str, Any]]
    broken: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Sampled:
    """What a pair has measured of one benchmark so far.

    Attributes:
        num_calls: calls of a batch.
        base_ns: time of a call of the base, by round.
        head_ns: time of a call of the head.
        counters: what each side counted.
        meters: what each side's other meters say.
        problem: why there is no more, or "".
        culprit: the side on which it did not pass, or "".
        untimed: the test does not want to be timed so often that it could be judged.
    """

    num_calls: int = 0
    base_ns: list[float] = field(default_factory=list)
    head_ns: list[float] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    meters: dict[str, dict[str, int]] = field(default_factory=dict)
    problem: str = ""
    culprit: str = ""
    untimed: bool = False
    num_rounds: int = 0
    num_untimed: int = 0

    def pair(self, hash_seed: str) -> Pair:
        """The rounds, for the verdict."""
        return Pair(hash_seed=hash_seed, base_ns=tuple(self.base_ns), head_ns=tuple(self.head_ns))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRun:
    """What came of a pair.

    Attributes:
        hash_seed: PYTHONHASHSEED of both.
        ready: what each side had to time.
        sampled: by key, of the benchmarks that both sides have.
        modules: where each side imported the modules of its tree from.
    """

    hash_seed: str
    ready: dict[str, Ready]
    sampled: dict[str, Sampled]
    modules: dict[str, dict[str, str]]


def run_pair(
    start: Callable[[ExitStack, str], tuple[TimingProcess, TimingProcess]],
    keys: Sequence[str],
    meters: Sequence[str],
    progress: Progress,
) -> PairRun:
    """Start two processes and let them take turns.

    Args:
        start: starts the processes of base and head under a hash seed.
        keys: the benchmarks.
        meters: what to measure besides time.
        progress: told after each visit.

    Raises:
        DuetError: a process breaks.
    """
    seed = random.randrange(1, 2**32)  # noqa: S311 - the luck of a hash seed is what is to be averaged
    with ExitStack() as stack:
        base, head = start(stack, str(seed))
        for process in (base, head):
            process.send(do="start", keys=list(keys), meters=list(meters))
        ready = {process.side: _ready(process) for process in (base, head)}
        both = [key for key in keys if all(key in side.benchmarks for side in ready.values())]
        turns = _Turns(base, head, random.Random(seed), progress)  # noqa: S311 - likewise
        thresholds = {key: float(ready["head"].benchmarks[key]["threshold"]) for key in both}
        sampled = turns.visit_all(thresholds)
        over = {process.side: process.ask("over", do="end") for process in (base, head)}
        modules = {side: answer["modules"] for side, answer in over.items()}
    return PairRun(hash_seed=str(seed), ready=ready, sampled=sampled, modules=modules)


def _ready(process: TimingProcess) -> Ready:
    answer = process.receive("ready")
    if answer["protocol"] != PROTOCOL:
        raise DuetError(
            f"the {process.side}'s plugin speaks version {answer['protocol']} of the timing protocol, and "
            f"this one version {PROTOCOL}: the two cannot take turns; compare commits whose plugins agree"
        )
    return Ready(benchmarks=answer["benchmarks"], broken=answer["broken"])


class _EndedError(Exception):
    """A test has ended by itself while it was being timed."""

    def __init__(self, side: str, answer: dict[str, Any]) -> None:
        super().__init__(side)
        self.side = side
        self.answer = answer


def _ask(process: TimingProcess, kind: str, **message: Any) -> dict[str, Any]:
    answer = process.ask(kind, "ended", **message)
    if answer["is"] == "ended":
        raise _EndedError(process.side, answer)
    return answer


class _Turns:
    """Two processes that are ready."""

    def __init__(
        self, base: TimingProcess, head: TimingProcess, rng: random.Random, progress: Progress
    ) -> None:
        self._sides = [base, head]
        self._rng = rng
        self._progress = progress

    def visit_all(self, thresholds: Mapping[str, float]) -> dict[str, Sampled]:
        """All rounds of all benchmarks, in thirds; more for those whose times scatter.

        Whether there is more to come depends on how far they scatter, and not on which side is ahead.
        """
        sampled = {key: Sampled() for key in thresholds}
        self._visit_each(sampled, [key for _ in range(_NUM_VISITS) for key in self._shuffled(sampled)])
        for _ in range(_MORE_VISITS):
            self._visit_each(
                sampled, [key for key in self._shuffled(sampled) if _is_vague(sampled[key], thresholds[key])]
            )
        return sampled

    def _shuffled(self, keys: Collection[str]) -> list[str]:
        return self._rng.sample(sorted(keys), len(keys))

    def _visit_each(self, sampled: Mapping[str, Sampled], order: Sequence[str]) -> None:
        for done, key in enumerate(order):
            following = next((other for other in order[done + 1 :] if _is_open(sampled[other])), None)
            if _is_open(sampled[key]):
                self._visit(key, sampled[key], None if following == key else following)
            self._progress(done + 1, len(order))

    def _visit(self, key: str, sampled: Sampled, following: str | None) -> None:
        """A third of a benchmark's rounds, in a fresh run of its test on both sides."""
        core = self._rng.choice(_cores())
        for process in self._sides:
            process.doing = key
            process.send(do="open", key=key, next=following, core=core)
        answers = {process.side: process.receive("open", "ended") for process in self._sides}
        were_opened = all(answer["is"] == "open" for answer in answers.values())
        if were_opened:
            sampled.meters = {side: answer["meters"] for side, answer in answers.items()}
            try:
                self._rounds(sampled, answers["head"])
            except _EndedError as ended:
                answers[ended.side] = ended.answer
        still_open = [process for process in self._sides if answers[process.side]["is"] == "open"]
        for process in still_open:
            process.send(do="close")
        for process in still_open:
            answers[process.side] = process.receive("ended")
        _conclude(sampled, answers, were_opened=were_opened)

    def _rounds(self, sampled: Sampled, opened: Mapping[str, Any]) -> None:
        self._plan(sampled, opened)
        for _ in range(0 if sampled.untimed else ceil(sampled.num_rounds / _NUM_VISITS)):
            self._round(sampled)

    def _plan(self, sampled: Sampled, opened: Mapping[str, Any]) -> None:
        """How many calls and rounds; settled at the first visit."""
        wanted = opened["rounds"]
        if sampled.num_calls:
            return
        if wanted is not None and wanted < _MIN_ROUNDS:
            sampled.num_calls, sampled.untimed = 1, True
            return
        told = [_ask(process, "calibrated", do="calibrate") for process in self._sides]
        call_ns = max(answer["call_ns"] for answer in told)
        sampled.num_calls = max(1, min(opened["max_calls"], round(_BATCH_NS / max(call_ns, 1.0))))
        sampled.num_untimed = int(call_ns < _WARM_NS)
        round_ns = 2 * call_ns * (sampled.num_calls + sampled.num_untimed)
        affordable = int(_BUDGET_NS / max(round_ns, 1.0))
        sampled.num_rounds = min(max(affordable, _MIN_ROUNDS), NUM_ROUNDS, wanted or NUM_ROUNDS)

    def _round(self, sampled: Sampled) -> None:
        """Both sides, in random order; again where a clock had to throw its measurement away."""
        for _ in range(_MAX_REJECTED):
            taken: dict[str, float | None] = {}
            for process in self._rng.sample(self._sides, len(self._sides)):
                answer = _ask(
                    process, "batch", do="batch", calls=sampled.num_calls, untimed=sampled.num_untimed
                )
                taken[process.side] = answer["ns"]
            base_ns, head_ns = taken["base"], taken["head"]
            if base_ns and head_ns:
                sampled.base_ns.append(base_ns / sampled.num_calls)
                sampled.head_ns.append(head_ns / sampled.num_calls)
                return


def _cores() -> Sequence[int | None]:
    """The numbers of the cores that a process may use, where the system tells."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]


def _is_vague(sampled: Sampled, threshold: float) -> bool:
    """The rounds so far leave open where in a wide interval the effect is."""
    if not _is_open(sampled) or not sampled.base_ns or sampled.num_rounds < NUM_ROUNDS:
        return False  # a slow one has had its share of the time
    low, high = sampled.pair("").interval()
    return (high - low) / 2 > _ENOUGH * threshold


def _is_open(sampled: Sampled) -> bool:
    """There is more to be measured."""
    return not sampled.problem and not sampled.untimed


def _conclude(sampled: Sampled, answers: dict[str, dict[str, Any]], *, were_opened: bool) -> None:
    """Note what both sides counted, or what keeps the benchmark from being compared."""
    for side, answer in answers.items():
        if answer["outcome"] != "passed":
            sampled.culprit = side
            why = answer["why"].splitlines()[0] if answer["why"] else "no reason given"
            sampled.problem = f"{answer['outcome'] or 'ended'} in the {side}'s timing process: {why}"
            return
        sampled.counters[side] = answer["counters"]
    if not were_opened:
        sampled.problem = "does not call pagedkv_benchmark on both sides"

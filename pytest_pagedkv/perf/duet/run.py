"""Screening all benchmarks with one pair of processes, judging the suspicious ones with four fresh pairs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from pytest_pagedkv.baselines import Judgement, Verdict
from pytest_pagedkv.baselines.duet import CONFIRM_PAIRS, DuetResult, Pair, is_suspicious, judge_duet
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.accepting import BaseLines, lines_of_base
from pytest_pagedkv.perf.duet.checkout import Checkout
from pytest_pagedkv.perf.duet.process import DuetError
from pytest_pagedkv.perf.duet.progress import Progress
from pytest_pagedkv.perf.duet.rounds import NUM_ROUNDS, PairRun, Sampled
from pytest_pagedkv.perf.duet.setting import Setting, open_setting
from pytest_pagedkv.perf.keys import SUITE, SUITE_KEY
from pytest_pagedkv.report.against import Against

__all__ = ["Comparison", "compare_with_base"]

_MIN_ROUNDS = 8
"""Fewer rounds that count, after a clock has thrown some away, are no evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of comparing two trees.

    Attributes:
        against: what was compared, and how.
        results: by key.
        notes: what the report should say besides.
        base_lines: the slowdowns that the base has accepted.
    """

    against: Against
    results: Mapping[str, DuetResult]
    notes: Sequence[str]
    base_lines: BaseLines


def compare_with_base(
    config: pytest.Config, options: Options, keys: Sequence[str], spreads: Mapping[str, float]
) -> Comparison:
    """Time these benchmarks here and at the base.

    Args:
        config: of this session.
        options: name the base.
        keys: the benchmarks; shipped ones are left out where pagedkv is installed, since both sides would
            run the same code.
        spreads: how much each one spreads on this machine, where it is known, in log ratios.

    Raises:
        DuetError: the comparison cannot be made.
    """
    started = time.monotonic()
    with open_setting(config, options) as setting:
        notes = setting.notes()
        duet = _Duet(setting, spreads)
        results = duet.run([key for key in keys if not _is_foreign(key, setting.head)])
        base_lines = lines_of_base(options.baselines, setting.head, setting.base)
        against = Against(
            base=setting.base.shown,
            head=setting.head.shown,
            rounds=NUM_ROUNDS,
            confirm_pairs=CONFIRM_PAIRS,
            seconds=round(time.monotonic() - started, 1),
            is_selftest=options.selftest,
        )
    return Comparison(against=against, results=results, notes=[*notes, *duet.notes], base_lines=base_lines)


def _is_foreign(key: str, head: Checkout) -> bool:
    """A shipped benchmark that is not of the head's tree."""
    return key.startswith(SUITE_KEY) and not SUITE.resolve().is_relative_to(head.top)


class _Duet:
    """Screening and confirming.

    Args:
        setting: both trees.
        spreads: by key, in log ratios.
    """

    def __init__(self, setting: Setting, spreads: Mapping[str, float]) -> None:
        self._setting = setting
        self._spreads = spreads
        self.notes: list[str] = []

    def run(self, keys: Sequence[str]) -> dict[str, DuetResult]:
        """The verdict on each benchmark."""
        what = f"timing {counted(len(keys), 'benchmark')} against {self._setting.base.shown}"
        with Progress(self._setting.config, what) as progress:
            first = self._setting.pair(keys, progress)
        self._note_broken(first)
        self._check_files(first, keys)
        confirm = self._confirmed([key for key in first.sampled if self._needs_confirming(first, key)])
        return {key: self._result(key, first, confirm) for key in keys}

    def _confirmed(self, keys: Sequence[str]) -> list[PairRun]:
        runs = []
        for number in range(1, CONFIRM_PAIRS + 1 if keys else 1):
            kind = "benchmark" if self._setting.options.selftest else "suspicion"
            what = f"confirming {counted(len(keys), kind)}, pair {number} of {CONFIRM_PAIRS}"
            with Progress(self._setting.config, what) as progress:
                runs.append(self._setting.pair(keys, progress))
        return runs

    def _threshold(self, key: str, first: PairRun) -> float:
        """The marker's, or three times what this machine spreads by itself."""
        return max(float(first.ready["head"].benchmarks[key]["threshold"]), 3 * self._spreads.get(key, 0.0))

    def _needs_confirming(self, first: PairRun, key: str) -> bool:
        """Suspicious; in a self-test everything is, since it has to measure what pairs spread."""
        sampled = first.sampled[key]
        if self._obstacle(key, first) or not _is_evidence(sampled):
            return False
        return self._setting.options.selftest or is_suspicious(
            sampled.pair(first.hash_seed), self._threshold(key, first)
        )

    def _result(self, key: str, first: PairRun, confirm: Sequence[PairRun]) -> DuetResult:
        obstacle = self._obstacle(key, first)
        if obstacle is not None:
            return obstacle
        sampled = first.sampled[key]
        counters = sampled.counters.get("base")
        confirmed = [run.sampled[key].pair(run.hash_seed) for run in confirm if key in run.sampled]
        if not _is_evidence(sampled) or not all(map(_has_rounds, confirmed)):
            return self._unjudged(key, first, Verdict.NOISY, "too few rounds could be measured", counters)
        return judge_duet(
            sampled.pair(first.hash_seed),
            confirmed,
            metric=str(first.ready["head"].benchmarks[key]["metric"]),
            threshold=self._threshold(key, first),
            num_calls=sampled.num_calls,
            counters=counters,
            meters=_both(sampled.meters),
        )

    def _obstacle(self, key: str, first: PairRun) -> DuetResult | None:
        """Why a benchmark cannot be compared, if it cannot."""
        base, head = first.ready["base"], first.ready["head"]
        if key not in head.benchmarks:
            return self._unjudged(key, first, Verdict.INCOMPARABLE, "not found by the head's timing process")
        if key not in base.benchmarks:
            return self._absent(key, first)
        sampled = first.sampled[key]
        if sampled.problem:
            blocks = sampled.culprit == "head" or self._setting.options.require_baseline
            return self._unjudged(key, first, Verdict.INCOMPARABLE, sampled.problem, blocks=blocks)
        if base.benchmarks[key]["source"] != head.benchmarks[key]["source"]:
            why = "the test itself is not the base's"
            return self._unjudged(key, first, Verdict.INCOMPARABLE, why, sampled.counters["base"])
        if sampled.untimed:
            why = "timed by its own wish in too few rounds"
            return self._unjudged(key, first, None, why, sampled.counters["base"])
        return None

    def _absent(self, key: str, first: PairRun) -> DuetResult:
        """New, unless its file is there and cannot be imported."""
        file = key.partition("::")[0]
        for nodeid in first.ready["base"].broken:
            if file.endswith(nodeid) or nodeid.endswith(file):
                why = f"the base's {nodeid} cannot be imported"
                return self._unjudged(key, first, Verdict.INCOMPARABLE, why, blocks=True)
        return self._unjudged(key, first, Verdict.NEW, "the base does not have it")

    def _unjudged(
        self,
        key: str,
        first: PairRun,
        verdict: Verdict | None,
        why: str,
        counters: dict[str, int] | None = None,
        *,
        blocks: bool = False,
    ) -> DuetResult:
        known = first.ready["head"].benchmarks.get(key, {"metric": "cpu", "threshold": 0.0})
        return DuetResult(
            judgement=None if verdict is None else Judgement(verdict, (why,)),
            metric=str(known["metric"]),
            threshold=float(known["threshold"]),
            counters=counters,
            blocks=blocks,
        )

    def _check_files(self, first: PairRun, keys: Sequence[str]) -> None:
        """A base that has none of the benchmarks is worth a word, and a folder that has none is a mistake."""
        ready = first.ready["base"]
        if not keys or ready.benchmarks or ready.broken:
            return
        base = self._setting.base
        what = f"{base.shown} has none of the {counted(len(keys), 'benchmark')}"
        if base.is_given:
            raise DuetError(f"{what}; is --pagedkv-against the folder that was meant?")
        self.notes.append(f"{what}: no time was compared")

    def _note_broken(self, first: PairRun) -> None:
        for nodeid, traceback in first.ready["base"].broken.items():
            self.notes.append(f"the base's {nodeid} cannot be imported:\n{traceback}")


def _both(meters: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[int, int]]:
    """What both sides measured, base first."""
    base, head = meters["base"], meters["head"]
    return {name: (base[name], head[name]) for name in sorted(base.keys() & head.keys())}


def _is_evidence(sampled: Sampled) -> bool:
    return sampled.untimed or len(sampled.base_ns) >= _MIN_ROUNDS


def _has_rounds(pair: Pair) -> bool:
    return len(pair.base_ns) >= _MIN_ROUNDS

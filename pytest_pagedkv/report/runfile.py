"""A run file (`.pagedkv-perf/run.json`, "pagedkv-run/1") as typed values.

The file may be of an older version, cut short by hand, or written by the code under test to do harm: what is
absent or of a wrong type reads as absent, and every string is safe to show once it is escaped for its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.report import plain

__all__ = ["Against", "Benchmark", "Duet", "Pair", "Run", "Stored", "Timing"]

_Part = TypeVar("_Part")
_VERDICTS = frozenset(map(str, Verdict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """How base and head were compared.

    Attributes:
        base: what the base is, such as "origin/main@abc1234".
        head: what was compared with it.
        rounds: rounds in a pair.
        confirm_pairs: fresh pairs for what looked suspicious.
        seconds: how long it took.
        is_selftest: base and head are the same code.
    """

    base: str
    head: str
    rounds: int | None
    confirm_pairs: int | None
    seconds: float | None
    is_selftest: bool

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Against":
        """Out of the run file."""
        return cls(
            base=plain.text(value.get("base")),
            head=plain.text(value.get("head")),
            rounds=plain.integer(value.get("rounds")),
            confirm_pairs=plain.integer(value.get("confirm_pairs")),
            seconds=plain.number(value.get("seconds")),
            is_selftest=plain.flag(value.get("is_selftest")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two worker processes that took turns.

    Attributes:
        stage: "screen" or "confirm".
        hash_seed: PYTHONHASHSEED of both.
        base_ns: time of one call on the base, round by round.
        head_ns: time of one call on the head, in the same rounds; as many.
    """

    stage: str
    hash_seed: str
    base_ns: tuple[float, ...]
    head_ns: tuple[float, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Pair":
        """Out of the run file; rounds without a counterpart are left out."""
        base, head = plain.positives(value.get("base_ns")), plain.positives(value.get("head_ns"))
        num_rounds = min(len(base), len(head))
        return cls(
            stage="confirm" if value.get("stage") == "confirm" else "screen",
            hash_seed=_hash_seed(value.get("hash_seed")),
            base_ns=base[:num_rounds],
            head_ns=head[:num_rounds],
        )

    @property
    def changes(self) -> tuple[float, ...]:
        """Relative change of time, head against base, round by round."""
        return tuple(head / base - 1 for base, head in zip(self.base_ns, self.head_ns, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duet:
    """Timing of one benchmark against another commit.

    Attributes:
        verdict: "worse", "better", "same", "too noisy" or another word of the gate.
        detail: the gate's line about it, or "".
        metric: which clock.
        threshold: relative change above which the gate fails.
        effect: relative change of time, head against base; None if not judged.
        low: lower end of the interval that the gate gives with it.
        high: upper end.
        base_ns: time of one call on the base.
        head_ns: time of one call on the head.
        num_calls: calls in a round.
        base_counters: what the base counted.
        meters: other integer measures, (base, head) by name.
        pairs: what was measured, in its order.
    """

    verdict: str
    detail: str
    metric: str
    threshold: float | None
    effect: float | None
    low: float | None
    high: float | None
    base_ns: float | None
    head_ns: float | None
    num_calls: int | None
    base_counters: dict[str, int] | None
    meters: dict[str, tuple[int, int]]
    pairs: tuple[Pair, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Duet":
        """Out of the run file."""
        found = (Pair.from_plain(plain.mapping(each)) for each in plain.items(value.get("pairs")))
        return cls(
            verdict=_verdict(value.get("verdict")),
            detail=plain.text(value.get("detail")),
            metric=_metric(value.get("metric")),
            threshold=plain.number(value.get("threshold")),
            effect=plain.number(value.get("effect")),
            low=plain.number(value.get("low")),
            high=plain.number(value.get("high")),
            base_ns=plain.number(value.get("base_ns")),
            head_ns=plain.number(value.get("head_ns")),
            num_calls=plain.integer(value.get("num_calls")),
            base_counters=plain.counts(value.get("base_counters")),
            meters=_meters(plain.mapping(value.get("meters"))),
            pairs=tuple(pair for pair in found if pair.base_ns),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Timing of one benchmark against its stored history, in multiples of the reference workload.

    Attributes:
        verdict: the gate's word.
        detail: its line, or "".
        tolerance: relative change above which it is worse.
        centre: this run.
        baseline_centre: what is stored.
        history: earlier runs, oldest first.
        is_gated: a test fails for it; else it only advises.
    """

    verdict: str
    detail: str
    ratio: float | None
    tolerance: float | None
    centre: float | None
    baseline_centre: float | None
    history: tuple[float, ...]
    is_gated: bool

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Stored":
        """Out of the run file."""
        return cls(
            verdict=_verdict(value.get("verdict")),
            detail=plain.text(value.get("detail")),
            ratio=plain.number(value.get("ratio")),
            tolerance=plain.number(value.get("tolerance")),
            centre=plain.number(value.get("centre")),
            baseline_centre=plain.number(value.get("baseline_centre")),
            history=plain.positives(value.get("history")),
            is_gated=plain.flag(value.get("is_gated")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time of one call in this run alone, one sample a round."""

    metric: str
    num_calls: int | None
    samples_ns: tuple[float, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Timing":
        """Out of the run file."""
        return cls(
            metric=_metric(value.get("metric")),
            num_calls=plain.integer(value.get("num_calls")),
            samples_ns=plain.positives(value.get("samples_ns")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What one run says of one benchmark.

    Attributes:
        key: its name.
        file: its test file, relative to the root of the repository, or "".
        line: where in the file the test begins.
        outcomes: outcome of each phase of the test, by phase.
        metric: which clock it is timed with.
        threshold: relative change above which the gate fails.
        group: its group, or "".
        verdict: the worst of the verdicts on counters, stored timing and duet; "" if there is none.
        failed_gate: the gate made the test fail.
        counters: what was counted.
        baseline: what is stored.
        details: the gate's lines on the counters that moved.
    """

    key: str
    file: str
    line: int | None
    outcomes: dict[str, str]
    metric: str
    threshold: float | None
    group: str
    verdict: str
    failed_gate: bool
    counters: dict[str, int] | None
    baseline: dict[str, int] | None
    counters_verdict: str
    details: tuple[str, ...]
    timing: Timing | None
    stored: Stored | None
    duet: Duet | None

    @classmethod
    def from_plain(cls, key: str, value: Mapping[str, Any]) -> "Benchmark":
        """Out of the run file; versions that have no `failed_gate` failed for a difference."""
        verdict = _verdict(value.get("verdict"))
        outcomes = {
            plain.text(k): plain.text(v) for k, v in plain.mapping(value.get("outcomes")).items() if v
        }
        is_failure = outcomes.get("call") == "failed" and verdict not in ("", "same", "better", "new")
        return cls(
            key=plain.text(key) or "(no name)",
            file=plain.text(value.get("file")),
            line=plain.integer(value.get("line")),
            outcomes=outcomes,
            metric=_metric(value.get("metric")),
            threshold=plain.number(value.get("threshold")),
            group=plain.text(value.get("group")),
            verdict=verdict,
            failed_gate=plain.flag(value.get("failed_gate", is_failure)),
            counters=plain.counts(value.get("counters")),
            baseline=plain.counts(value.get("baseline")),
            counters_verdict=_verdict(value.get("counters_verdict", verdict)),
            details=plain.texts(value.get("details")),
            timing=_present(Timing.from_plain, value.get("timing")),
            stored=_present(Stored.from_plain, value.get("stored")),
            duet=_present(Duet.from_plain, value.get("duet")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One performance run.

    Attributes:
        exit_code: what pytest ended with.
        environment: slug of the fingerprint, or "".
        fields: the fingerprint, as text.
        against: how base and head were compared; None if they were not.
        benchmarks: in the order of their keys.
        stale: stored benchmarks whose test is gone.
    """

    finished: str
    command: tuple[str, ...]
    exit_code: int | None
    python: str
    platform: str
    hash_seeds: tuple[str, ...]
    environment: str
    fields: dict[str, str]
    baselines: str
    against: Against | None
    benchmarks: tuple[Benchmark, ...]
    stale: tuple[str, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Run":
        """Out of the run file."""
        environment = plain.mapping(value.get("environment"))
        benchmarks = plain.mapping(value.get("benchmarks"))
        return cls(
            finished=plain.text(value.get("finished")),
            command=plain.texts(value.get("command")),
            exit_code=plain.integer(value.get("exit_code")),
            python=plain.text(value.get("python")),
            platform=plain.text(value.get("platform")),
            hash_seeds=tuple(filter(None, map(_hash_seed, plain.items(value.get("hash_seeds"))))),
            environment=plain.text(environment.get("slug")),
            fields={
                plain.text(k): plain.text(v if isinstance(v, str) else str(v))
                for k, v in plain.mapping(environment.get("fields")).items()
                if v is not None
            },
            baselines=plain.text(value.get("baselines")),
            against=_present(Against.from_plain, value.get("against")),
            benchmarks=tuple(
                Benchmark.from_plain(key, plain.mapping(benchmarks[key])) for key in sorted(benchmarks)
            ),
            stale=plain.texts(value.get("stale")),
            notes=plain.texts(value.get("notes")),
            errors=plain.texts(value.get("errors")),
        )


def _present(make: Callable[[Mapping[str, Any]], _Part], value: object) -> _Part | None:
    return make(value) if isinstance(value, dict) else None


def _verdict(value: object) -> str:
    return plain.word(value, _VERDICTS)


def _metric(value: object) -> str:
    return plain.word(value, ("cpu", "cuda", "wall"))


def _hash_seed(value: object) -> str:
    shown = str(value) if isinstance(value, int) else value
    is_number = isinstance(shown, str) and shown.isascii() and shown.isdigit() and len(shown) <= 10
    return str(shown) if is_number else plain.word(shown, ("random",))


def _meters(value: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, sides in value.items():
        if isinstance(sides, list | tuple) and len(sides) == 2:
            base, head = map(plain.integer, sides)
            if base is not None and head is not None:
                found[plain.text(name)] = (base, head)
    return found

"""A run file (`.pagedkv-perf/run.json`, "pagedkv-run/1") as typed values.

The file may be of an older version, cut short by hand, or written by the code under test to do harm: what is
absent or of a wrong type reads as absent, and every string is safe to show once it is escaped for its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_pagedkv.report import plain
from pytest_pagedkv.report.timings import Against, Duet, Stored, Timing

__all__ = ["Benchmark", "Run"]

_Part = TypeVar("_Part")


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
        meters: what was measured besides, in this run alone.
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
    meters: dict[str, int] | None
    timing: Timing | None
    stored: Stored | None
    duet: Duet | None

    @classmethod
    def from_plain(cls, key: str, value: Mapping[str, Any]) -> "Benchmark":
        """Out of the run file; a version without `failed_gate` failed for a difference, in the key's file."""
        verdict = plain.verdict(value.get("verdict"))
        outcomes = {
            plain.text(k): plain.text(v) for k, v in plain.mapping(value.get("outcomes")).items() if v
        }
        is_failure = outcomes.get("call") == "failed" and verdict not in ("", "same", "better", "new")
        return cls(
            key=plain.text(key) or "(no name)",
            file=plain.text(value.get("file", key.partition("::")[0])),
            line=plain.integer(value.get("line")),
            outcomes=outcomes,
            metric=plain.metric(value.get("metric")),
            threshold=plain.number(value.get("threshold")),
            group=plain.text(value.get("group")),
            verdict=verdict,
            failed_gate=plain.flag(value.get("failed_gate", is_failure)),
            counters=plain.counts(value.get("counters")),
            baseline=plain.counts(value.get("baseline")),
            counters_verdict=plain.verdict(value.get("counters_verdict", verdict)),
            details=plain.texts(value.get("details")),
            meters=plain.counts(value.get("meters")),
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
        recorded: what else is known of the environment.
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
    recorded: dict[str, str]
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
            hash_seeds=tuple(filter(None, map(plain.hash_seed, plain.items(value.get("hash_seeds"))))),
            environment=plain.text(environment.get("slug")),
            fields=_as_text(environment.get("fields")),
            recorded=_as_text(environment.get("recorded")),
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


def _as_text(value: object) -> dict[str, str]:
    found = ((plain.text(name), each) for name, each in plain.mapping(value).items() if each is not None)
    return {name: plain.text(each if isinstance(each, str) else repr(each)) for name, each in found}

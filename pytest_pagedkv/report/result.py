"""What becomes of one benchmark, and how it travels on pytest's reports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import pytest

from pytest_pagedkv.baselines import Judgement, Verdict
from pytest_pagedkv.baselines.timing import StoredResult
from pytest_pagedkv.marker import PerfMark

__all__ = ["Measured", "Result", "Timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a call took.

    Attributes:
        metric: "cpu", "cuda" or "wall".
        num_calls: calls in a round.
        samples_ns: time of one call, averaged over each round.
        reference_ns: time of the reference workload beside each round; empty where there is none.
        shared: None if pytest-benchmark has the samples too, else why it has not.
    """

    metric: str
    num_calls: int
    samples_ns: tuple[float, ...]
    reference_ns: tuple[float, ...] = ()
    shared: str | None = None

    @property
    def best_ns(self) -> float:
        """The fastest round."""
        return min(self.samples_ns)

    @property
    def median_ns(self) -> float:
        """The round in the middle."""
        return median(self.samples_ns)

    @property
    def calibrated(self) -> tuple[float, ...]:
        """The rounds as multiples of the reference workload, or in ns where there is none."""
        if not self.reference_ns:
            return self.samples_ns
        pairs = zip(self.samples_ns, self.reference_ns, strict=True)
        return tuple(sample / reference for sample, reference in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one phase of a test tells the controller, in plain types that pytest-xdist can carry."""

    key: str
    mark: PerfMark
    toolchain: str = ""
    counters: Mapping[str, int] | None = None
    judgement: Judgement | None = None
    timing: Timing | None = None
    stored: StoredResult | None = None
    meters: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Verdict, ...] = ()

    @property
    def failed_gate(self) -> bool:
        """The gate made the test fail."""
        return bool(self.failures)

    def as_plain(self) -> dict[str, Any]:
        """As built-in types."""
        plain = asdict(self) | {"failures": [str(verdict) for verdict in self.failures]}
        if self.judgement is not None:
            plain["judgement"] = [str(self.judgement.verdict), list(self.judgement.details)]
        if self.stored is not None:
            plain["stored"] = self.stored.as_plain()
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Measured":
        """Back from built-in types."""
        judgement, timing, stored = plain["judgement"], plain["timing"], plain["stored"]
        return cls(
            key=plain["key"],
            mark=PerfMark(**plain["mark"]),
            toolchain=plain["toolchain"],
            counters=plain["counters"],
            judgement=judgement and Judgement(Verdict(judgement[0]), tuple(judgement[1])),
            timing=timing and Timing(**timing),
            stored=stored and StoredResult.from_plain(stored),
            meters=plain["meters"],
            failures=tuple(map(Verdict, plain["failures"])),
        )


@dataclass(slots=True)
class Result:
    """What became of one benchmark, over all its phases.

    Attributes:
        nodeid: pytest's name for the test.
        measured: what the call phase told.
        outcomes: outcome of each phase, by phase; "xfailed" where a failure was expected.
        skip_reason: why it was skipped, or "".
        file: where the test is, as pytest names it, and None if nobody knows.
        line: the line there, from 1.
    """

    nodeid: str
    measured: Measured
    outcomes: dict[str, str] = field(default_factory=dict)
    skip_reason: str = ""
    file: str | None = None
    line: int | None = None

    def add(self, report: pytest.TestReport, measured: Measured) -> None:
        """Take in one phase."""
        if report.when == "call":
            self.measured = measured
        self.file, number, _ = report.location
        self.line = None if number is None else number + 1
        expected = report.skipped and hasattr(report, "wasxfail")
        self.outcomes[report.when or ""] = "xfailed" if expected else report.outcome
        if report.skipped and isinstance(report.longrepr, tuple | list):
            self.skip_reason = str(report.longrepr[-1]).removeprefix("Skipped: ")

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, if there were counters to judge."""
        return None if self.measured.judgement is None else self.measured.judgement.verdict

    @property
    def passed(self) -> bool:
        """Every phase passed."""
        return self._outcomes() == {"passed"}

    @property
    def failed_gate(self) -> bool:
        """The test did its work, and its counters made it fail."""
        return self.measured.failed_gate and self.outcomes.get("call") == "failed"

    @property
    def passed_but_for_gate(self) -> bool:
        """Nothing but the gate failed."""
        return self.passed or (self.failed_gate and self._outcomes(but="call") == {"passed"})

    @property
    def skipped_as(self) -> str | None:
        """Whether it was "skipped" or "xfailed"; None if neither."""
        outcomes = self._outcomes()
        if "failed" in outcomes:
            return None
        return next((word for word in ("skipped", "xfailed") if word in outcomes), None)

    @property
    def did_run(self) -> bool:
        """The test came to an end of its own, good or bad."""
        return "failed" in self._outcomes() or self.outcomes.get("call") == "passed"

    def _outcomes(self, but: str = "") -> set[str]:
        return {outcome for phase, outcome in self.outcomes.items() if phase != but}

"""What is known of one performance run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_pagedkv.baselines import Baselines, Collected, Entry, SecondPass, Verdict
from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.kernels import Kernels
from pytest_pagedkv.baselines.slower import Slowdowns
from pytest_pagedkv.baselines.store import Store
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.options import Options
from pytest_pagedkv.report.against import Against
from pytest_pagedkv.report.result import Result

__all__ = ["PerfRun"]


@dataclass(slots=True, kw_only=True)
class PerfRun:
    """A performance run, as the process sees it that judges or decides.

    Attributes:
        options: what the user asked for.
        root: pytest's root directory.
        command: how to start such a run again.
        baselines: what is stored.
        kernels: what is stored of compiled kernels.
        slowdowns: those that were accepted.
        timings: what is stored of times in this environment, by metric.
        second_pass: the counters under the other hash seed; None until they are there.
        against: what the times were compared with; None if with nothing.
        duets: what came of that, by key.
        collected: what was collected, before anything was deselected.
        results: what became of each benchmark, by key.
        stale: stored keys whose test is gone.
        notes: what the report should say besides.
        errors: what kept the run from doing what was asked.
        candidates: the folder of files that accept what is new, once it is written.
    """

    options: Options
    root: Path
    command: str
    baselines: Baselines
    kernels: Kernels
    slowdowns: Slowdowns
    timings: Mapping[str, Timings]
    second_pass: SecondPass | None = None
    against: Against | None = None
    duets: dict[str, DuetResult] = field(default_factory=dict)
    collected: Collected = field(default_factory=Collected)
    results: dict[str, Result] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    candidates: Path | None = None

    @property
    def folder(self) -> Path:
        """Where files go that are not for git."""
        return self.root / ".pagedkv-perf"

    def stored(self, toolchain: str) -> Store[Entry]:
        """Where counters stand: those that a compiler gave by its toolchain, all others for any."""
        return self.kernels.of(toolchain) if toolchain else self.baselines

    def toolchains(self) -> list[str]:
        """Those whose counters this run has to do with; "" is for counters that belong to none."""
        here = {result.measured.toolchain for result in self.results.values()} - {""}
        return ["", *sorted(self.kernels.with_versions_of(here))]

    def stored_keys(self) -> set[str]:
        """The benchmarks that something is stored of, as far as this run can tell whether they are gone.

        Where a test's kernels could not be listed, nobody knows which there are.
        """
        collected = set(self.collected.keys)
        stored = {key for name in self.toolchains() for key in self.stored(name).keys()}  # noqa: SIM118 - a store
        unknown = {key for key in stored - set(self.baselines.keys()) if key.partition("[")[0] in collected}
        return (stored - unknown) | set(self.slowdowns.keys())

    def stores_time(self, key: str) -> bool:
        """The user asked for this benchmark's time to be stored."""
        return self.options.update in ("timing", "all") or key in self.options.accept

    def unstored(self) -> dict[str, Result]:
        """The benchmarks, by key, that have no baseline, could have one, and get none from this run."""
        return {
            key: result
            for key, result in self.results.items()
            if result.verdict in (Verdict.NEW, Verdict.MISSING)
            and result.passed_but_for_gate
            and not self.options.stores(key, result.measured.toolchain)
        }

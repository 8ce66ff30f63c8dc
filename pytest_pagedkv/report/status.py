"""What became of each benchmark, in one word, and what the run says as a whole."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.report.runfile import Benchmark, Run
from pytest_pagedkv.report.wording import percent, smallest_detectable

__all__ = [
    "Status",
    "by_status",
    "effect_of",
    "exit_code",
    "headline",
    "is_failure",
    "setting",
    "status",
    "unchanged",
]


class Status(StrEnum):
    """In the order in which people want to see them: what needs somebody comes first."""

    FAILED = "FAIL"
    BROKEN = "failed otherwise"
    NOISY = "too noisy"
    IMPROVED = "improved"
    DIFFERENT = "differs, not gated"
    INCOMPARABLE = "incomparable"
    NEW = "new"
    SAME = "no change detected"
    UNJUDGED = "not judged"
    NOT_RUN = "not run"


_BY_VERDICT = {
    Verdict.SAME: Status.SAME,
    Verdict.BETTER: Status.IMPROVED,
    Verdict.NEW: Status.NEW,
    Verdict.MISSING: Status.NEW,
    Verdict.INCOMPARABLE: Status.INCOMPARABLE,
    Verdict.NOISY: Status.NOISY,
    "": Status.UNJUDGED,
}
_PHASES = frozenset({"setup", "call", "teardown"})
_EXIT_CODES = {
    1: "tests failed",
    2: "interrupted",
    3: "internal error of pytest",
    4: "wrong usage",
    5: "no test was selected",
    10: "regression",
    11: "baseline missing or incomparable",
    12: "nondeterministic counter",
}


def status(benchmark: Benchmark) -> Status:
    """The word for one benchmark."""
    outcomes = benchmark.outcomes
    if benchmark.failed_gate:
        return Status.FAILED
    if "failed" in outcomes.values():
        return Status.BROKEN
    if outcomes and outcomes.get("call") != "passed":
        return Status.NOT_RUN
    return _BY_VERDICT.get(benchmark.verdict, Status.DIFFERENT)


def is_failure(word: Status) -> bool:
    """The run fails for it."""
    return word in (Status.FAILED, Status.BROKEN)


def by_status(run: Run) -> dict[Status, list[Benchmark]]:
    """The benchmarks of each status that occurs, worst first; in each the largest change of time first."""
    found: dict[Status, list[Benchmark]] = {word: [] for word in Status}
    for benchmark in sorted(run.benchmarks, key=lambda each: (-abs(effect_of(each) or 0.0), each.key)):
        found[status(benchmark)].append(benchmark)
    return {word: benchmarks for word, benchmarks in found.items() if benchmarks}


def effect_of(benchmark: Benchmark) -> float | None:
    """Relative change of time: against the other commit, else against stored timings."""
    if benchmark.duet is not None and benchmark.duet.effect is not None:
        return benchmark.duet.effect
    if benchmark.stored is not None and benchmark.stored.ratio is not None:
        return benchmark.stored.ratio - 1
    return None


def headline(run: Run) -> str:
    """The verdict of the run in a line, such as "2 of 24 benchmarks failed (2 worse), 1 improved"."""
    groups = by_status(run)
    parts = [*_failures(run, groups), *_rest(groups)]
    if not run.benchmarks:
        parts.append("no benchmark ran")
    elif not any(map(is_failure, groups)) and not run.errors and not run.exit_code:
        parts.insert(0, "no regression found")
    return ", ".join(parts)


def exit_code(run: Run) -> str:
    """Pytest's exit code with what it means, such as "10 (regression)"; "" if unknown."""
    if run.exit_code is None:
        return ""
    meaning = _EXIT_CODES.get(run.exit_code)
    return f"{run.exit_code} ({meaning})" if meaning else str(run.exit_code)


def setting(run: Run) -> Iterator[str]:
    """How it was measured, in parts: what was compared, where, and how often."""
    yield counted(len(run.benchmarks), "benchmark")
    if run.against is not None:
        yield from ("base against itself (self-test)",) if run.against.is_selftest else ()
        if run.against.rounds is not None:
            yield f"duet {counted(run.against.rounds, 'round')}"
        if run.against.confirm_pairs is not None:
            yield f"confirm {counted(run.against.confirm_pairs, 'pair')}"
    if run.hash_seeds:
        yield f"counted under PYTHONHASHSEED {' and '.join(run.hash_seeds)}"


def unchanged(run: Run) -> str:
    """How many did not change, and what the clocks would have found, such as "(smallest detectable ~7%)"."""
    number = len(by_status(run).get(Status.SAME, ()))
    limits = smallest_detectable(run)
    told = ", ".join(f"~{percent(limit, sign=False)} {metric}".rstrip() for metric, limit in limits.items())
    return f"{number} with no change detected" + (f" (smallest detectable here {told})" if told else "")


def _failures(run: Run, groups: dict[Status, list[Benchmark]]) -> Iterator[str]:
    if run.errors:
        yield counted(len(run.errors), "error")
    if failed := groups.get(Status.FAILED):
        words = Counter(benchmark.verdict or "no verdict" for benchmark in failed)
        told = ", ".join(f"{number} {word}" for word, number in words.most_common())
        yield f"{len(failed)} of {counted(len(run.benchmarks), 'benchmark')} failed ({told})"
    if broken := groups.get(Status.BROKEN):
        yield f"{len(broken)} failed otherwise"
    if run.exit_code and not run.errors and not any(map(is_failure, groups)):
        yield f"exit code {exit_code(run)}"


def _rest(groups: dict[Status, list[Benchmark]]) -> Iterator[str]:
    shown = (Status.IMPROVED, Status.NOISY, Status.DIFFERENT, Status.INCOMPARABLE, Status.NEW)
    yield from (f"{len(groups[word])} {word.value}" for word in shown if word in groups)

"""The lines of all trials as tables."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from tests.measure.gate.trials import Line

__all__ = ["as_markdown"]

_FIELDS = ("min", "median", "mean")


def as_markdown(lines: list[Line]) -> str:
    """All tables, for docs/perf_gate.md."""
    return "\n".join([*_unchanged(lines), *_slowdowns(lines), *_counters(lines)]) + "\n"


def _unchanged(lines: list[Line]) -> Iterator[str]:
    yield _row("unchanged code", "runs", "comparisons", "alarms", "too noisy", "looked at twice", "s a run")
    yield "|---|---|---|---|---|---|---|"
    for is_loaded, name in ((False, "machine as it was"), (True, "two busy neighbours")):
        runs = [line for line in lines if line["kind"] == "unchanged" and line["is_loaded"] is is_loaded]
        judged = [
            each for run in runs for each in run["benchmarks"].values() if each.get("effect") is not None
        ]
        if runs:
            verdicts = [each["verdict"] for each in judged]
            seconds = sorted(run["seconds"] for run in runs)
            yield _row(
                name,
                f"{len(runs)} ({sum(run['exit_code'] != 0 for run in runs)} failed)",
                len(judged),
                f"{verdicts.count('worse')} slower, {verdicts.count('better')} faster",
                verdicts.count("too noisy"),
                sum(each["num_pairs"] > 1 for each in judged),
                f"{seconds[0]:.0f} to {seconds[-1]:.0f}, median {median(seconds):.0f}",
            )
    yield ""
    yield _row("compare-fail, each of these runs with the one before", "alarms", "failed runs")
    yield "|---|---|---|"
    for field in _FIELDS:
        yield _compare_fail(lines, field)
    yield ""


def _compare_fail(lines: list[Line], field: str) -> str:
    """False alarms of `--benchmark-compare-fail=FIELD:5%` on unchanged code."""
    failed = compared = failed_runs = num_runs = 0
    for is_loaded in (False, True):
        runs = [line for line in lines if line["kind"] == "unchanged" and line["is_loaded"] is is_loaded]
        for before, after in pairwise(runs):
            found = list(_regressions(before["saved"], after["saved"], field))
            failed, compared = failed + sum(found), compared + len(found)
            failed_runs, num_runs = failed_runs + any(found), num_runs + 1
    share = f"{failed} of {compared} ({failed / max(compared, 1):.0%})"
    return _row(f"{field}:5%", share, f"{failed_runs} of {num_runs}")


def _regressions(before: Line, after: Line, field: str) -> Iterator[bool]:
    from pytest_benchmark.utils import PercentageRegressionCheck

    check = PercentageRegressionCheck(field, 5.0)
    for name in before.keys() & after.keys():
        yield bool(check.fails(after[name], before[name]))


def _slowdowns(lines: list[Line]) -> Iterator[str]:
    beside = "compare-fail min / median / mean:5%"
    yield _row("extra work in", "planted", "measured, median", "trials", "found", "looked at twice", beside)
    yield "|---|---|---|---|---|---|---|"
    groups: defaultdict[tuple[str, float], list[Line]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "slowdown":
            groups[line["place"], line["percent"]].append(line)
    for (place, percent), trials in groups.items():
        told = [trial["benchmarks"][trial["test"]] for trial in trials]
        found = sum(trial["exit_code"] == 10 for trial in trials)
        twice = sum(each["num_pairs"] > 1 for each in told)
        effect = median(each["effect"] for each in told)
        beside = " / ".join(f"{_share(trials, field)}" for field in _FIELDS)
        share = f"{found} ({found / len(trials):.0%})"
        yield _row(place, f"+{percent:g}%", f"{effect:+.1%}", len(trials), share, twice, beside)
    yield ""


def _share(trials: list[Line], field: str) -> str:
    found = [each for trial in trials for each in _regressions(trial["before"], trial["saved"], field)]
    return f"{sum(found)}/{len(found)}"


def _counters(lines: list[Line]) -> Iterator[str]:
    counts = [line["counters"] for line in lines if line["kind"] == "counters"]
    if counts:
        differing = sum(each != counts[0] for each in counts)
        seeds = len({line["hash_seed"] for line in lines if line["kind"] == "counters"})
        number = sum(len(each) for each in counts[0].values())
        yield (
            f"Counters: {len(counts)} counting runs under {seeds} hash seeds, half of them under load, "
            f"{len(counts[0])} benchmarks with {number} counters: {differing} runs differ from the first."
        )


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"

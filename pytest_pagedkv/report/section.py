"""The section "pagedkv perf" of the terminal report."""

import os
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_pagedkv.baselines import Verdict, hash_seed
from pytest_pagedkv.baselines.compare import differences
from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.report.against import Against
from pytest_pagedkv.report.duet import told_duet
from pytest_pagedkv.report.result import Result, Timing
from pytest_pagedkv.report.run import PerfRun
from pytest_pagedkv.report.stored import meter_lines, stored_failure, stored_notes, stored_tally
from pytest_pagedkv.report.wording import duration

if TYPE_CHECKING:
    import pytest

__all__ = ["write_section"]

_VERDICT_WORDS = {
    Verdict.SAME: "unchanged",
    Verdict.BETTER: "improved",
    Verdict.WORSE: "worse",
    Verdict.CHANGED: "changed",
    Verdict.NEW: "new",
    Verdict.MISSING: "missing",
    Verdict.NONDETERMINISTIC: "nondeterministic",
    Verdict.INCOMPARABLE: "incomparable",
    Verdict.NOISY: "too noisy",
    Verdict.STALE: "stale",
}
_WORDS = [*_VERDICT_WORDS.values(), "without counters", "failed otherwise", "not run", "xfailed", "skipped"]
_WIDTH = 100
_INDENT = 7
_MAX_COUNTERS = 3


def write_section(terminal: "pytest.TerminalReporter", run: PerfRun) -> None:
    """Write failures, notes, new benchmarks, the count of the rest, and the timings."""
    terminal.ensure_newline()
    terminal.section("pagedkv perf")
    if run.results:
        terminal.write_line(_headline(run))
    else:
        terminal.write_line("no benchmark: no test that was selected is marked pagedkv_perf")
    for word, text in _lines(run):
        terminal.write_line(f" {word:5} {text}", red=word in ("FAIL", "ERROR"))
    for line in (
        *_tally(run),
        *_compared_tally(run),
        *stored_tally(run),
        *_timing_table(run),
        *_where(run),
        *meter_lines(run),
    ):
        terminal.write_line(line)


def _where(run: PerfRun) -> Iterator[str]:
    """The page with plots, where it was written."""
    page = run.options.report / "index.html"
    if run.results and page.is_file():
        yield f" report: {os.path.relpath(page)}"


def _headline(run: PerfRun) -> str:
    seeds = f"{hash_seed()} and {run.second_pass.hash_seed}" if run.second_pass else hash_seed()
    number = counted(len(run.results), "benchmark")
    first = f"{number}, baselines {run.baselines.shown}, counted under PYTHONHASHSEED {seeds}"
    return first if run.against is None else f"{first}\n{_compared(run.against)}"


def _compared(against: Against) -> str:
    if against.is_selftest:
        what = f"self-test of {against.head}"
    else:
        what = f"base {against.base}, head {against.head}"
    rounds = f"duet {against.rounds} rounds, confirm {against.confirm_pairs} pairs"
    return f"{what}, {rounds}, {against.seconds:.0f} s"


def _lines(run: PerfRun) -> Iterator[tuple[str, str]]:
    results = sorted(run.results.items())
    failed = {key: result for key, result in results if result.failed_gate}
    yield from (("FAIL", _told(run, key, result)) for key, result in failed.items())
    yield from (("note", _told(run, key, result)) for key, result in results if _is_noted(result))
    yield from (("note", note) for note in _other_toolchains(run))
    yield from (("note", _told_time(run, key)) for key, _ in results if _is_time_noted(run, key))
    yield from (("note", note) for note in stored_notes(run))
    yield from (("note", f"{key}   counts nothing") for key, result in results if _is_empty(run, key, result))
    yield from (("note", note) for note in run.notes)
    yield from (("ERROR", error) for error in run.errors)
    yield from (("", line) for line in _how_to_accept(run, failed))
    yield from _new_lines(run)
    if run.stale and not run.options.update:
        yield from (("stale", f"{key}   its test is gone") for key in run.stale)
        yield "", f"drop the stale ones with: {run.command} --pagedkv-update"


def _new_lines(run: PerfRun) -> Iterator[tuple[str, str]]:
    new = run.unstored()
    for key, result in sorted(new.items()):
        if not result.failed_gate:
            yield "new", f"{key}   {counted(len(result.measured.counters or {}), 'counter')}"
    if new:
        yield "", f"accept the new ones with: {_accept_command(run)}"


def _how_to_accept(run: PerfRun, failed: Mapping[str, Result]) -> Iterator[str]:
    """The command for one, and that for all where there are more."""
    moved = {key for key, result in failed.items() if result.verdict and result.verdict.is_difference}
    slower = {key for key in failed if _is_slower(run, key)}
    found = [key for key in failed if key in moved | slower]
    if found:
        what = "what is right" if len(found) > 1 else "it, if it is right,"
        key = shlex.quote(found[0])
        command = f"{run.command}{_comparing(run) if slower else ''}"
        yield f"accept {what} with: {command} --pagedkv-accept={key} --pagedkv-reason='...'"
    if len(moved) > 1:
        what = "the counters of" if slower else "all"
        yield f"accept {what} {len(moved)} with: {run.command} --pagedkv-update"


def _is_slower(run: PerfRun, key: str) -> bool:
    """Its time against the other commit failed, and could be accepted."""
    duet = run.duets.get(key)
    return duet is not None and duet.is_worse and duet.fails and not run.options.selftest


def _comparing(run: PerfRun) -> str:
    """The options of the comparison."""
    options = run.options
    python = [f"--pagedkv-base-python={options.base_python}"] if options.base_python else []
    return " " + shlex.join([f"--pagedkv-against={options.against}", *python])


def _is_noted(result: Result) -> bool:
    """Differs, and did not fail for it."""
    verdict = result.verdict
    if verdict is None or result.failed_gate:
        return False
    is_told_together = result.measured.toolchain != ""
    return verdict.is_difference or (verdict is Verdict.INCOMPARABLE and not is_told_together)


def _other_toolchains(run: PerfRun) -> Iterator[str]:
    """Kernels that are stored as other compilers compile them, a line for each reason."""
    reasons = Counter(
        result.measured.judgement.details[0]
        for result in run.results.values()
        if result.measured.judgement is not None
        if result.measured.toolchain and result.verdict is Verdict.INCOMPARABLE and not result.failed_gate
    )
    for reason, number in sorted(reasons.items()):
        yield f"{counted(number, 'kernel')} not compared: {reason}"
    if reasons:
        yield f"record them with: {run.command} --pagedkv-update=kernels"


def _is_empty(run: PerfRun, key: str, result: Result) -> bool:
    """Nothing is known of it that could be judged."""
    return result.passed and result.verdict is None and key not in run.duets


def _is_time_noted(run: PerfRun, key: str) -> bool:
    """The comparison of times says something, and did not make the test fail."""
    duet = run.duets.get(key)
    return (
        duet is not None
        and (not duet.fails or run.options.selftest)
        and duet.judgement is not None
        and duet.judgement.verdict is not Verdict.SAME
    )


def _told_time(run: PerfRun, key: str) -> str:
    duet = run.duets[key]
    word = _VERDICT_WORDS[duet.judgement.verdict] if duet.judgement else ""
    if duet.is_excused and duet.accepted is not None:
        word = f"slower, as accepted ({duet.accepted.reason})"
    return f"{key}   {word}: {told_duet(duet)}"


def _told(run: PerfRun, key: str, result: Result) -> str:
    """The benchmark, its time if that failed, and its worst counters, on lines of their own if need be."""
    duet = run.duets.get(key)
    if duet is not None and duet.fails and not run.options.selftest:
        lines = [
            told_duet(duet),
            *stored_failure(result.measured.stored),
            _some(_moved(duet, result), _WIDTH - _INDENT - 2, _MAX_COUNTERS),
        ]
        return f"\n{' ' * (_INDENT + 2)}".join([key, *filter(None, lines)])
    judged = result.measured.judgement.details if result.measured.judgement else ()
    details = (*stored_failure(result.measured.stored), *judged)
    room = _WIDTH - _INDENT - len(key) - 3
    if len(_joined(details, 2)) <= room:
        return f"{key}   {_some(details, room, _MAX_COUNTERS)}"
    return f"{key}\n{' ' * (_INDENT + 2)}{_some(details, _WIDTH - _INDENT - 2, _MAX_COUNTERS)}"


def _moved(duet: DuetResult, result: Result) -> list[str]:
    """The counters that are not those of the base."""
    found = differences(duet.counters or {}, result.measured.counters or {})
    return list(map(str, found)) if duet.counters is not None else []


def _some(parts: Sequence[str], width: int, most: int) -> str:
    """The first parts that fit, at least one, and how many more there are."""
    if not parts:
        return ""
    texts = (_joined(parts, number) for number in range(most, 1, -1))
    return next((text for text in texts if len(text) <= width), _joined(parts, 1))


def _joined(parts: Sequence[str], number: int) -> str:
    more = [f"+{len(parts) - number} more"] if number < len(parts) else []
    return ", ".join([*parts[:number], *more])


def _accept_command(run: PerfRun) -> str:
    """A copy: it takes in the new benchmarks and nothing else that this run may have found."""
    if run.candidates is None:
        return f"{run.command} --pagedkv-update"
    folder, candidates = shlex.quote(run.baselines.shown), sorted(run.candidates.iterdir())
    copied = " ".join(shlex.quote(os.path.relpath(path)) for path in candidates)
    return f"mkdir -p {folder} && cp -r {copied} {folder}/"


def _tally(run: PerfRun) -> Iterator[str]:
    words = Counter(_word(result) for result in run.results.values())
    told = ", ".join(f"{words[word]} {word}" for word in sorted(words, key=_WORDS.index))
    width = _WIDTH - len(told) - 3
    reasons = sorted(
        {
            textwrap.shorten(result.skip_reason or "no reason given", max(20, width - 10), placeholder=" ...")
            for result in run.results.values()
            if result.skipped_as == "skipped"
        }
    )
    if told:
        yield f" {told}{': ' if reasons else ''}{_some(reasons, width, len(reasons))}"


def _compared_tally(run: PerfRun) -> Iterator[str]:
    """How many times did not change, and what could have been seen."""
    duets = [duet for key, duet in run.duets.items() if key in run.results]
    verdicts = Counter(duet.judgement.verdict for duet in duets if duet.judgement is not None)
    words = {**_VERDICT_WORDS, Verdict.SAME: "no change detected", Verdict.WORSE: "slower"}
    told = [f"{number} {words[verdict]}" for verdict, number in verdicts.most_common()]
    seen = [duet.threshold for duet in duets if duet.effect is not None]
    if told:
        limit = f" (smallest detectable here {_range(seen)})" if seen else ""
        yield f" time: {', '.join(told)}{limit}"


def _range(thresholds: Sequence[float]) -> str:
    """Such as "~7%", and "~7% to 15%" where benchmarks have their own or a self-test raised some."""
    low, high = f"{min(thresholds):.0%}", f"{max(thresholds):.0%}"
    return f"~{low}" if low == high else f"~{low} to {high}"


def _word(result: Result) -> str:
    if result.skipped_as:
        return result.skipped_as
    if not result.did_run:
        return "not run"
    if result.measured.counters is None or not result.passed_but_for_gate:
        return "failed otherwise"
    return "without counters" if result.verdict is None else _VERDICT_WORDS[result.verdict]


def _timing_table(run: PerfRun) -> Iterator[str]:
    timings = {key: result.measured.timing for key, result in sorted(run.results.items())}
    names = _short_names(list(timings))
    rows = [_row(name, each) for name, each in zip(names, timings.values(), strict=True) if each is not None]
    if not rows:
        return
    yield f" times of one call (not compared){_not_shared(run)}"
    rows.insert(0, ("", "best", "median", "rounds x calls"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = (f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True))
        yield f"  {name:<{widths[0]}}  {'  '.join(cells)}"


def _short_names(keys: list[str]) -> list[str]:
    """Without folders, where that leaves them different."""
    parts = [key.partition("::") for key in keys]
    names = [file.rpartition("/")[2] + separator + test for file, separator, test in parts]
    return names if len(set(names)) == len(keys) else keys


def _row(name: str, timing: Timing) -> tuple[str, str, str, str]:
    size = f"{len(timing.samples_ns)} x {timing.num_calls}"
    return f"{name} {timing.metric}", duration(timing.best_ns), duration(timing.median_ns), size


def _not_shared(run: PerfRun) -> str:
    timings = [result.measured.timing for result in run.results.values()]
    reasons = sorted({timing.shared for timing in timings if timing is not None and timing.shared})
    return f", not in pytest-benchmark's report: {'; '.join(reasons)}" if reasons else ""

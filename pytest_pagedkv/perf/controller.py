"""The process that decides: starts the second pass, gathers results, writes files, sets the exit code."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pytest_pagedkv.baselines import Collected, SecondPass, Verdict, stale_keys
from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.fingerprint import Fingerprint, fingerprint
from pytest_pagedkv.baselines.spread import read_spreads, write_spreads
from pytest_pagedkv.perf.accepting import accept_slowdowns
from pytest_pagedkv.perf.compiled import unit_of
from pytest_pagedkv.perf.duet.process import DuetError
from pytest_pagedkv.perf.duet.run import compare_with_base
from pytest_pagedkv.perf.keys import file_of
from pytest_pagedkv.perf.second_pass import run_second_pass
from pytest_pagedkv.perf.selection import check_accepted
from pytest_pagedkv.perf.storing import store
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.report.artifacts import write_artifacts
from pytest_pagedkv.report.result import Measured, Result
from pytest_pagedkv.report.run import PerfRun
from pytest_pagedkv.report.section import write_section

__all__ = ["Controller", "Worker", "exit_code"]

_REGRESSION = 10
_MISSING = 11
_NONDETERMINISTIC = 12
_NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED
_OVER = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, _NO_TESTS)
"""pytest's exit codes of a run that came to its end."""


class Controller:
    """Hooks of the controlling process."""

    def __init__(self, config: pytest.Config, run: PerfRun) -> None:
        self._config = config
        self._run = run
        self._gate_failures: list[Verdict] = []
        self._num_other_failures = 0
        self._is_stopped_by_failures = False
        self._has_section = False
        self._annotations: Sequence[str] = ()

    def pytest_report_header(self) -> str:
        """What is compared with what."""
        options, baselines = self._run.options, self._run.baselines
        parts = [f"baselines {baselines.shown} ({len(baselines.keys())} benchmarks)", f"seed {options.seed}"]
        if options.against or options.selftest:
            parts.append(f"against {options.against or 'itself'}")
        if options.update:
            parts.append(f"update {options.update}")
        if options.require_baseline:
            parts.append("require baseline")
        return f"pagedkv: perf, {', '.join(parts)}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Count once elsewhere before the tests run here; pytest-xdist's controller has no items.

        What is compiled counts nothing.
        """
        option = self._config.option
        is_broken = session.testsfailed and not option.continue_on_collection_errors
        keys = [item.stash[BENCHMARK].key for item in session.items if unit_of(item) is None]
        if keys and not is_broken and not option.collectonly:
            self._measure_elsewhere(keys)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """Count once elsewhere before the workers start; what they will collect is not known yet."""
        self._measure_elsewhere(None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the counters of the other pass."""
        if self._run.second_pass is not None:
            node.workerinput["pagedkv_second_pass"] = asdict(self._run.second_pass)
            node.workerinput["pagedkv_duets"] = {
                key: duet.as_plain() for key, duet in self._run.duets.items()
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker what it collected."""
        collected = getattr(node, "workeroutput", {}).get("pagedkv_collected")
        if collected is not None:
            self._run.collected = Collected(**collected)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather one phase of one test."""
        plain = getattr(report, "pagedkv_measured", None)
        measured = None if plain is None else Measured.from_plain(plain)
        if measured is not None:
            self._run.results.setdefault(measured.key, Result(report.nodeid, measured)).add(report, measured)
        if not report.failed:
            return
        if measured is not None and measured.failed_gate:
            self._gate_failures += measured.failures
        else:
            self._num_other_failures += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a file that could not be collected."""
        self._num_other_failures += report.failed

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell a run that its failures stopped (-x, --sw) from one that a person did."""
        option, num_failures = self._config.option, len(self._gate_failures)
        is_internal = issubclass(excinfo.type, KeyboardInterrupt) and excinfo.type is not KeyboardInterrupt
        is_full = 0 < (option.maxfail or 0) <= num_failures
        self._is_stopped_by_failures = is_internal and (is_full or getattr(option, "stepwise", False))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files and settle the exit code."""
        run = self._run
        is_over = exitstatus in _OVER or self._is_stopped_by_failures
        self._has_section = bool(run.results) or (is_over and not self._config.option.collectonly)
        if not self._has_section:
            return
        run.stale = stale_keys(run.stored_keys(), run.collected, lambda key: file_of(key, run.root))
        if is_over:
            store(run)
            session.exitstatus = self._settled(exitstatus)
        if run.results:
            self._annotations = write_artifacts(run, int(session.exitstatus))
        if not self._config.pluginmanager.hasplugin("terminalreporter"):
            sys.stderr.writelines(f"ERROR: {error}\n" for error in run.errors)

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Show the section."""
        if self._has_section:
            write_section(terminalreporter, self._run)
        for line in self._annotations:
            terminalreporter.write_line(line)

    def _measure_elsewhere(self, keys: list[str] | None) -> None:
        run, options = self._run, self._run.options
        second = run.second_pass = run_second_pass(self._config, keys, options.second_pass_timeout_s)
        if keys is None:  # a worker that refuses names by itself confuses pytest-xdist
            check_accepted(options.accept, {*second.counters, *second.problems})
        if options.against or options.selftest:
            self._compare(sorted(second.counters))

    def _compare(self, keys: list[str]) -> None:
        """Time what could be counted; nothing else can pass."""
        run, options = self._run, self._run.options
        file, environment = run.folder / "selftest.json", fingerprint(options.device)
        spreads, problem = ({}, "") if options.selftest else read_spreads(file, environment)
        try:
            comparison = compare_with_base(self._config, options, keys, spreads)
        except DuetError as error:
            run.errors.append(str(error))
            for line in write_artifacts(run, _MISSING):
                sys.stdout.write(line + "\n")
            pytest.exit(f"pagedkv: {error}", returncode=_MISSING)
        run.against = comparison.against
        run.duets = dict(comparison.results)
        run.notes += [*filter(None, [problem]), *comparison.notes]
        if options.selftest:
            self._keep_spreads(file, environment)
        else:
            accept_slowdowns(run, comparison.base_lines)

    def _keep_spreads(self, file: Path, environment: Fingerprint) -> None:
        try:
            self._run.notes.append(write_spreads(file, environment, self._run.duets))
        except OSError as error:
            self._run.errors.append(f"{file.name}: cannot be written: {error.strerror}")

    def _settled(self, exitstatus: int) -> int:
        """The exit code: ours only where nothing but the gate made tests fail, or where storing failed."""
        is_fine = exitstatus in (pytest.ExitCode.OK, _NO_TESTS)
        is_ours = bool(self._gate_failures) and not self._num_other_failures and not is_fine
        if self._run.errors and (is_ours or is_fine):
            return pytest.ExitCode.USAGE_ERROR
        return exit_code(self._gate_failures) if is_ours else exitstatus


def exit_code(verdicts: Iterable[Verdict | None]) -> int:
    """The exit code where the gate is all that failed, with these verdicts."""
    found = set(verdicts)
    if Verdict.NONDETERMINISTIC in found:
        return _NONDETERMINISTIC
    return _MISSING if found & {Verdict.MISSING, Verdict.INCOMPARABLE} else _REGRESSION


class Worker:
    """Hooks of the other side, a worker; pytest-xdist adds `workerinput` and `workeroutput` to its config."""

    def __init__(self, config: Any, run: PerfRun) -> None:
        self._config = config
        self._run = run
        run.second_pass = SecondPass(**config.workerinput["pagedkv_second_pass"])
        run.duets = {
            key: DuetResult.from_plain(plain) for key, plain in config.workerinput["pagedkv_duets"].items()
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Tell what was collected: the controller collects nothing."""
        self._config.workeroutput["pagedkv_collected"] = asdict(self._run.collected)

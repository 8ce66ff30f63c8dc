"""The process that decides: starts the second pass, gathers results, writes files, sets the exit code."""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pytest

from pytest_pagedkv.baselines import Collected, Verdict, stale_keys
from pytest_pagedkv.perf.artifacts import write_artifacts
from pytest_pagedkv.perf.keys import file_of
from pytest_pagedkv.perf.result import BENCHMARK, Measured, Result
from pytest_pagedkv.perf.run import PerfRun
from pytest_pagedkv.perf.second_pass import run_second_pass
from pytest_pagedkv.perf.storing import store
from pytest_pagedkv.report.section import write_section

__all__ = ["Controller", "exit_code"]

_REGRESSION = 10
_MISSING = 11
_NONDETERMINISTIC = 12


class Controller:
    """Hooks of the controlling process."""

    def __init__(self, config: pytest.Config, run: PerfRun) -> None:
        self._config = config
        self._run = run

    def pytest_report_header(self) -> str:
        """What is compared with what."""
        options, baselines = self._run.options, self._run.baselines
        parts = [f"baselines {baselines.shown} ({len(baselines.keys())} benchmarks)", f"seed {options.seed}"]
        if options.update:
            parts.append(f"update {options.update}")
        if options.require_baseline:
            parts.append("require baseline")
        return f"pagedkv: perf, {', '.join(parts)}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Count once elsewhere before the tests run here; pytest-xdist's controller has no items."""
        option = self._config.option
        is_broken = session.testsfailed and not option.continue_on_collection_errors
        if session.items and not is_broken and not option.collectonly:
            self._count_elsewhere([item.stash[BENCHMARK].key for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """Count once elsewhere before the workers start; what they will collect is not known yet."""
        self._count_elsewhere(None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the counters of the other pass."""
        if self._run.second_pass is not None:
            node.workerinput["pagedkv_second_pass"] = asdict(self._run.second_pass)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from a worker what it collected."""
        collected = getattr(node, "workeroutput", {}).get("pagedkv_collected")
        if collected is not None:
            self._run.collected = Collected(**collected)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather one phase of one test."""
        plain = getattr(report, "pagedkv_measured", None)
        if plain is None:
            return
        measured = Measured.from_plain(plain)
        result = self._run.results.setdefault(measured.key, Result(report.nodeid, measured))
        if report.when == "call":
            result.measured = measured
        result.outcomes[report.when] = report.outcome

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the files and settle the exit code."""
        run = self._run
        if not run.results:
            return
        run.stale = stale_keys(run.baselines.keys(), run.collected, lambda key: file_of(key, run.root))
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            store(run)
            session.exitstatus = self._settled(session, exitstatus)
        write_artifacts(run, int(session.exitstatus))
        if not self._config.pluginmanager.hasplugin("terminalreporter"):
            sys.stderr.writelines(f"ERROR: {error}\n" for error in run.errors)

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Show the section."""
        write_section(terminalreporter, self._run)

    def _count_elsewhere(self, keys: list[str] | None) -> None:
        timeout_s = self._run.options.second_pass_timeout_s
        self._run.second_pass = run_second_pass(self._config, keys, timeout_s)

    def _settled(self, session: pytest.Session, exitstatus: int) -> int:
        """The exit code: ours only where nothing but the gate made tests fail."""
        if self._run.errors:
            return pytest.ExitCode.USAGE_ERROR
        failures = [result for result in self._run.results.values() if result.failed_gate]
        if exitstatus == pytest.ExitCode.OK or session.testsfailed != len(failures):
            return exitstatus
        return exit_code(result.verdict for result in failures)


def exit_code(verdicts: Iterable[Verdict | None]) -> int:
    """The exit code where the gate is all that failed, with these verdicts."""
    found = set(verdicts)
    if Verdict.NONDETERMINISTIC in found:
        return _NONDETERMINISTIC
    return _MISSING if found & {Verdict.MISSING, Verdict.INCOMPARABLE} else _REGRESSION

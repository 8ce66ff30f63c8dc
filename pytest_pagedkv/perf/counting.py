"""The other side of `second_pass`: a session that counts, and leaves nothing but its counters."""

import json
from argparse import Namespace
from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_pagedkv.perf.recorder import counters_of
from pytest_pagedkv.perf.tested import BENCHMARK

__all__ = ["Counting", "silence", "wanted_keys"]

_SILENT: dict[str, object] = {
    # ours
    "pagedkv_update": None,
    "pagedkv_require_baseline": False,
    "pagedkv_accept": [],
    "pagedkv_reason": None,
    # stopping early, and stopping to talk
    "maxfail": 0,
    "max_warnings": None,
    "stepwise": False,
    "stepwise_skip": False,
    "stepwise_reset": False,
    "lf": False,
    "usepdb": False,
    "trace": False,
    # files of pytest's own
    "xmlpath": None,
    "basetemp": None,
    "log_file": None,
    "pastebin": None,
    "cacheclear": False,
    # files of other plugins, timing
    "benchmark_disable": True,
    "benchmark_only": False,
    "benchmark_json": None,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_compare": [],
    "benchmark_histogram": [],
    "htmlpath": None,
    "json_report": False,
    "report_log": None,
    "allure_report_dir": None,
}
"""Options by destination, whether they came by command line, ini file or environment."""


def silence(option: Namespace) -> None:
    """Switch off whatever writes files, stops early or asks questions."""
    for name, value in _SILENT.items():
        if hasattr(option, name):
            setattr(option, name, value)


def wanted_keys(folder: Path) -> set[str] | None:
    """The benchmarks that the other process is going to run; None if it does not know."""
    keys = json.loads((folder / "wanted.json").read_text())
    return None if keys is None else set(keys)


class Counting:
    """Hooks that gather the counters of every test that passes, and why the others have none.

    A failing teardown is left to the other pass, where the same test has to be judged anyway.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counters: dict[str, dict[str, int]] = {}
        self._problems: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Gather one phase."""
        report = yield
        key = item.stash[BENCHMARK].key
        if report.when == "call" and report.passed:
            self._counters[key] = counters_of(item)
        elif report.when != "teardown" and call.excinfo is not None:
            self._problems[key] = f"{report.outcome} ({call.excinfo.exconly(tryshort=True).splitlines()[0]})"
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Hand over when all tests have run; a session that is cut short has nothing to hand over.

        Under pytest-xdist a file that cannot be collected does not keep the others from being run.
        """
        if wanted_keys(self._folder) is None:
            session.config.option.continue_on_collection_errors = True
        result = yield
        counted = {"counters": self._counters, "problems": self._problems}
        (self._folder / "counted.json").write_text(json.dumps(counted))
        return result

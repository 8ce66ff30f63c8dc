"""A pytest-xdist worker's side of the talk with the controller."""

from dataclasses import asdict
from typing import Any

import pytest

from pytest_pagedkv.perf.run import PerfRun
from pytest_pagedkv.perf.second_pass import SecondPass

__all__ = ["Worker"]


class Worker:
    """Hooks of a worker; pytest-xdist adds `workerinput` and `workeroutput` to its config."""

    def __init__(self, config: Any, run: PerfRun) -> None:
        self._config = config
        self._run = run
        run.second_pass = SecondPass(**config.workerinput["pagedkv_second_pass"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Tell what was collected: the controller collects nothing."""
        self._config.workeroutput["pagedkv_collected"] = asdict(self._run.collected)

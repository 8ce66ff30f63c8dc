"""A timing process from inside: a pytest session that runs benchmarks up to their call and measures there."""

import gc
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pagedkv.tracing import nvtx_range
from pytest_pagedkv.marker import PerfMark
from pytest_pagedkv.perf.benchmark import Meter
from pytest_pagedkv.perf.duet.channel import PROTOCOL, Channel, ChannelClosedError
from pytest_pagedkv.perf.keys import file_of
from pytest_pagedkv.perf.meters import Call, Clock, calibrate, clock_of, extra_meters, quiet_gc
from pytest_pagedkv.perf.recorder import counters_of
from pytest_pagedkv.perf.source_hash import source_of
from pytest_pagedkv.perf.tested import BENCHMARK

__all__ = ["DuetSession", "take_over"]


def take_over(config: pytest.Config, descriptors: str) -> "DuetSession":
    """Become a timing process.

    Args:
        config: of this session.
        descriptors: of the pipes, "read,write", from the environment.
    """
    read_fd, write_fd = map(int, descriptors.split(","))
    return DuetSession(config, Channel(read_fd, write_fd))


class DuetSession:
    """Hooks of a timing process. It ends when the process that decides is gone.

    Args:
        config: of this session.
        channel: to the process that decides.
    """

    def __init__(self, config: pytest.Config, channel: Channel) -> None:
        self._config = config
        self._channel = channel
        self._start = channel.receive()
        self._broken: dict[str, str] = {}
        self._problem = ""
        self._outcome = ""
        self._is_over = False
        self._core: int | None = None
        self._meters = tuple(self._start["meters"])
        self.wanted: set[str] = set(self._start["keys"])

    def narrow_arguments(self) -> None:
        """Collect the files that hold the wanted benchmarks, as far as this tree has them."""
        files = sorted({str(file_of(key, self._config.rootpath)) for key in self.wanted})
        self._config.args[:] = [file for file in files if Path(file).exists()]
        self._config.args_source = pytest.Config.ArgsSource.ARGS

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note which files cannot be imported, and why."""
        if report.failed:
            self._broken[report.nodeid] = str(report.longrepr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Say what there is, then do what is asked until there is nothing more."""
        items = {item.stash[BENCHMARK].key: item for item in session.items}
        with suppress(ChannelClosedError):
            self._channel.send(self._ready(items))
            while not self._is_over:
                self._obey(self._channel.receive(), items)
        return True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Files that cannot be imported do not keep the others from being timed."""
        session.config.option.continue_on_collection_errors = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note what becomes of the benchmark."""
        report = yield
        if report.outcome != "passed" and self._outcome in ("", "passed"):
            self._outcome = report.outcome
            if call.excinfo is not None:
                self._problem = call.excinfo.exconly(tryshort=True)
        elif not self._outcome and report.when == "call":
            self._outcome = report.outcome
        return report

    def meter(self, mark: PerfMark) -> Meter:
        """What the fixture is to do here in place of timing: make the batches that are asked for."""

        def serve(call: Call, rounds: int | None, warmup: int) -> None:
            clock = clock_of(mark.metric)
            for _ in range(warmup):
                call.once()
            with quiet_gc(), _on_one_core(self._core if mark.metric == "cpu" else None):
                self._channel.send(
                    {
                        "is": "open",
                        "rounds": rounds,
                        "max_calls": call.max_calls,
                        "meters": extra_meters(self._meters, call),
                    }
                )
                while (message := self._channel.receive())["do"] != "close":
                    self._channel.send(self._measured(message, call, clock))

        return serve

    def _measured(self, message: Mapping[str, Any], call: Call, clock: Clock) -> dict[str, Any]:
        if message["do"] == "calibrate":
            return _calibrated(call, clock)
        for _ in range(message["untimed"]):
            call.once()
        elapsed_ns = clock.batch(call, message["calls"])
        gc.collect()  # what a batch leaves behind is not to be there for the next
        return {"is": "batch", "ns": elapsed_ns}

    def _obey(self, message: Mapping[str, Any], items: Mapping[str, pytest.Item]) -> None:
        if message["do"] == "end":
            self._is_over = True
            self._channel.send({"is": "over", "modules": _modules()})
            return
        item, following = items[message["key"]], message.get("next")
        self._core = message.get("core")
        self._outcome = self._problem = ""
        with nvtx_range(message["key"]):
            item.config.hook.pytest_runtest_protocol(
                item=item, nextitem=None if following is None else items[following]
            )
        self._channel.send(
            {
                "is": "ended",
                "outcome": self._outcome,
                "why": self._problem,
                "counters": counters_of(item),
            }
        )

    def _ready(self, items: Mapping[str, pytest.Item]) -> dict[str, Any]:
        return {
            "is": "ready",
            "protocol": PROTOCOL,
            "process": os.getpid(),
            "broken": self._broken,
            "benchmarks": {
                key: {
                    "metric": item.stash[BENCHMARK].mark.metric,
                    "threshold": item.stash[BENCHMARK].mark.tolerance,
                    "source": source_of(item),
                }
                for key, item in items.items()
            },
        }


@contextmanager
def _on_one_core(number: int | None) -> Iterator[None]:
    """Keep this thread on the core on which the other side takes its turns too: no two cores are alike.

    Args:
        number: of the core; None leaves it to the system.
    """
    if number is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number} & allowed or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _calibrated(call: Call, clock: Clock) -> dict[str, Any]:
    """How many calls make a batch, and how long one of them takes."""
    elapsed_ns = 0.0

    def batch(num_calls: int) -> float | None:
        nonlocal elapsed_ns
        taken = clock.batch(call, num_calls)
        elapsed_ns = taken or elapsed_ns
        return taken

    num_calls = calibrate(batch, call.max_calls)
    return {"is": "calibrated", "calls": num_calls, "call_ns": elapsed_ns / num_calls}


def _modules() -> dict[str, str]:
    """Where each module was imported from, those of Python itself left out."""
    standard = Path(os.__file__).resolve().parent
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and not _is_standard(path := Path(file).resolve(), standard):
            found[name] = str(path)
    return found


def _is_standard(path: Path, standard: Path) -> bool:
    return path.is_relative_to(standard) and "site-packages" not in path.parts

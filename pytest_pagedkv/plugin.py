"""The module that the entry point names: options, marker, and nothing else unless --pagedkv-perf is given."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_pagedkv.marker import MARKER_LINES, healthy_mark, perf_mark
from pytest_pagedkv.options import Options, add_options, is_conformance
from pytest_pagedkv.state import COUNTING_FOLDER, DUET, STATE, Role, State

pytest_plugins = ("pytest_pagedkv.fixtures",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options and ini values."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """In a process that counts or times for another one, switch off everything that leaves traces.

    The variables are taken away, so that a pytest which a test starts is an ordinary one.
    """
    folder = os.environ.pop("PAGEDKV_COUNTING_FOLDER", None)
    descriptors = os.environ.pop("PAGEDKV_DUET", None)
    if folder is not None or descriptors is not None:
        from pytest_pagedkv.perf.counting import silence

        silence(config.option)
    if folder is not None:
        config.stash[COUNTING_FOLDER] = Path(folder)
    if descriptors is not None:
        from pytest_pagedkv.perf.duet.session import take_over

        config.stash[DUET] = take_over(config, descriptors)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, check the options, and start the gate if it is asked for."""
    for line in MARKER_LINES:
        config.addinivalue_line("markers", line)
    state = State(options=Options.from_config(config), root=config.rootpath, role=_role(config))
    config.stash[STATE] = state
    if state.options.perf:
        from pytest_pagedkv.perf.start import start

        start(config, state)
    if state.options.adapter or any(map(is_conformance, config.args)):
        from pytest_pagedkv.conformance.loading import start as start_conformance

        start_conformance(config, state.options)
    if str(config.getoption("hypothesis_profile", None)).startswith("pagedkv-"):
        from pytest_pagedkv.conformance.profiles import register

        register()


def _role(config: pytest.Config) -> Role:
    if COUNTING_FOLDER in config.stash:
        return Role.COUNTING
    if DUET in config.stash:
        return Role.DUET
    return Role.WORKER if hasattr(config, "workerinput") else Role.CONTROLLER


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the conformance suites did, where there were any."""
    told = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in getattr(report, "user_properties", ())
        if name == "pagedkv_conformance"
    ]
    if told:
        from pytest_pagedkv.conformance.summary import write

        write(terminalreporter, told)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers; without --pagedkv-perf, skip the performance tests.

    Last, because a conftest.py may add markers in the same hook.
    """
    for item in items:
        healthy_mark(item)
    if config.stash[STATE].options.perf:
        return
    skip = pytest.mark.skip(reason="a performance test: runs with --pagedkv-perf")
    for item in items:
        if perf_mark(item) is not None:
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A marked test that passed fails if its engines are not healthy."""
    yield
    if healthy_mark(item) is not None:
        from pytest_pagedkv.health import require_healthy

        require_healthy(item)

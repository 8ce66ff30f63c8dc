"""Bringing the shipped performance tests into the collection, wherever they are installed."""

from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_pagedkv.perf.keys import SUITE

__all__ = ["ShippedSuite", "add_suite", "whole_arguments"]


def add_suite(config: pytest.Config) -> None:
    """Collect the shipped tests too, if the user named no path."""
    if config.args_source is pytest.Config.ArgsSource.ARGS or not SUITE.is_dir():
        return
    config.pluginmanager.register(ShippedSuite(SUITE), "pagedkv-suite")
    if not any(SUITE.is_relative_to(folder) for folder in whole_arguments(config)):
        config.args.append(str(SUITE))


def whole_arguments(config: pytest.Config) -> list[Path]:
    """The paths to collect that are not narrowed down to single tests."""
    return [config.invocation_params.dir / argument for argument in config.args if "::" not in argument]


class ShippedSuite:
    """Hook that opens the way to the suite where it lies under a folder that pytest skips, such as `.venv`.

    Naming the suite besides would not do: pytest drops a path that another one covers.
    """

    def __init__(self, suite: Path) -> None:
        self._suite = suite
        self._opened: list[Path] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_ignore_collect(self, collection_path: Path) -> Generator[None, bool | None, bool | None]:
        """Let the folders above the suite be entered, and nothing else in those that were skipped."""
        is_ignored = yield
        if collection_path in self._suite.parents:
            if is_ignored:
                self._opened.append(collection_path)
            return False
        is_inside = collection_path.is_relative_to(self._suite)
        return is_ignored if is_inside else is_ignored or self._is_opened(collection_path)

    def _is_opened(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._opened)

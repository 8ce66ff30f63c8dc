"""Bringing the shipped performance tests into the collection, wherever they are installed."""

from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_pagedkv.perf.keys import SUITE

__all__ = ["ShippedSuite", "SuiteModule", "SuiteNames", "add_suite", "whole_arguments"]


def add_suite(config: pytest.Config, *, is_wanted: bool) -> None:
    """Let the shipped tests be collected under their own names; bring them in unless a path was given."""
    config.pluginmanager.register(SuiteNames(SUITE), "pagedkv-suite-names")
    if not is_wanted or config.args_source is pytest.Config.ArgsSource.ARGS or not SUITE.is_dir():
        return
    config.pluginmanager.register(ShippedSuite(SUITE), "pagedkv-suite")
    if not any(SUITE.is_relative_to(folder) for folder in whole_arguments(config)):
        config.args.append(str(SUITE))


def whole_arguments(config: pytest.Config) -> list[Path]:
    """The paths to collect that are not narrowed down to single tests."""
    return [config.invocation_params.dir / argument for argument in config.args if "::" not in argument]


class SuiteModule(pytest.Module):
    """A file of the suite: its functions are what they are, whatever the user's python_functions says."""

    def funcnamefilter(self, name: str) -> bool:
        """The suite's tests are functions, and this is their prefix."""
        return name.startswith("test_")


class SuiteNames:
    """Hooks that collect the suite by its own names, not by those of the user's ini file."""

    def __init__(self, suite: Path) -> None:
        self._suite = suite

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """A file that the user's python_files leaves out is collected all the same."""
        found = yield
        if self._is_test_file(file_path) and not any(isinstance(each, SuiteModule) for each in found):
            return [*found, SuiteModule.from_parent(parent, path=file_path)]
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(
        self, module_path: Path, parent: pytest.Collector
    ) -> pytest.Module | None:
        """And one that it takes in is collected in the same way."""
        return SuiteModule.from_parent(parent, path=module_path) if self._is_test_file(module_path) else None

    def _is_test_file(self, path: Path) -> bool:
        return path.is_relative_to(self._suite) and path.match("test_*.py")


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

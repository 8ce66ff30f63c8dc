"""Which tests a performance run has: the marked ones."""

from collections.abc import Collection, Generator
from difflib import get_close_matches
from pathlib import Path

import pytest

from pytest_pagedkv.baselines import Collected
from pytest_pagedkv.marker import perf_mark
from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.keys import benchmark_key, file_key, file_of
from pytest_pagedkv.perf.result import BENCHMARK, TestedBenchmark
from pytest_pagedkv.perf.suite import whole_arguments

__all__ = ["Selection"]


class Selection:
    """Hooks that narrow a session down to its benchmarks, and note what there was to see.

    Args:
        options: what the user asked for.
        root: pytest's root directory.
        collected: filled with what can be said for certain.
        wanted: keys to keep; None keeps all.
    """

    def __init__(
        self,
        options: Options,
        root: Path,
        collected: Collected,
        wanted: Collection[str] | None = None,
    ) -> None:
        self._options = options
        self._root = root
        self._collected = collected
        self._wanted = wanted
        self._is_partial = False

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Note which files could be collected."""
        report = yield
        if report.failed:
            self._is_partial = True
        elif report.passed and isinstance(collector, pytest.File):
            self._collected.files.append(file_key(collector.path, self._root))
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Keep the benchmarks only; the outermost wrapper, so that it sees all tests."""
        kept: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            (kept if self._is_kept(item) else others).append(item)
        self._forget_uncertain(config)
        config.hook.pytest_deselected(items=others)
        items[:] = kept
        yield
        self._check_accepted({item.stash[BENCHMARK].key for item in items})

    def _is_kept(self, item: pytest.Item) -> bool:
        mark = perf_mark(item)
        if mark is None:
            return False
        key = benchmark_key(item, self._root)
        item.stash[BENCHMARK] = TestedBenchmark(key, mark)
        self._collected.keys.append(key)
        return self._wanted is None or key in self._wanted

    def _forget_uncertain(self, config: pytest.Config) -> None:
        """Keep of the files those that were certainly seen whole."""
        folders = whole_arguments(config)
        if self._is_partial or config.getoption("lf", default=False):
            self._collected.files.clear()
            return
        files = [file for file in self._collected.files if _is_covered(file, folders, self._root)]
        self._collected.files = files
        self._collected.folders = list(map(str, folders))

    def _check_accepted(self, keys: Collection[str]) -> None:
        for key in self._options.accept:
            if key not in keys:
                near = get_close_matches(key, keys, n=3, cutoff=0.4) or sorted(keys)[:3]
                raise pytest.UsageError(
                    f"--pagedkv-accept: this run has no benchmark {key!r}; "
                    + (f"near ones: {', '.join(near)}" if near else "it has none at all")
                )


def _is_covered(file: str, folders: list[Path], root: Path) -> bool:
    path = file_of(file, root)
    return any(path.is_relative_to(folder) for folder in folders)

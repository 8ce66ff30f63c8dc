"""Which tests a performance run has: the marked ones."""

from collections.abc import Collection, Generator
from difflib import get_close_matches
from pathlib import Path

import pytest

from pytest_pagedkv.baselines import Collected
from pytest_pagedkv.marker import perf_mark
from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.keys import benchmark_key, file_key, file_of
from pytest_pagedkv.perf.suite import whole_arguments
from pytest_pagedkv.perf.tested import BENCHMARK, TestedBenchmark

__all__ = ["Narrowing", "Selection", "check_accepted"]


_NEEDS_GPU = pytest.mark.skip(reason="times a GPU: runs with --pagedkv-device=cuda")


class Narrowing:
    """The hook that narrows, after those by which a conftest.py may add markers.

    It has an object of its own, since one plugin has one implementation of a hook.
    """

    def __init__(self, selection: "Selection") -> None:
        self._selection = selection

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the benchmarks only."""
        self._selection.narrow(config, items)


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
        self._seen: list[pytest.Item] = []

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
        """Remember all tests and narrow them down; the outermost wrapper, so that it sees all of them."""
        self._forget_uncertain(config)
        self._seen = list(items)
        yield
        check_accepted(self._options.accept, {item.stash[BENCHMARK].key for item in items})

    def narrow(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the benchmarks only.

        A test that others took away before it was asked for its marker may be one: it is not stale.
        """
        left = set(items)
        for item in self._seen:
            key, mark = benchmark_key(item, self._root), perf_mark(item)
            if mark is not None:
                item.stash[BENCHMARK] = TestedBenchmark(key, mark)
                if mark.metric == "cuda" != self._options.device:
                    item.add_marker(_NEEDS_GPU)
            if mark is not None or item not in left:
                self._collected.keys.append(key)
        kept = [item for item in items if self._is_wanted(item)]
        config.hook.pytest_deselected(items=[item for item in items if not self._is_wanted(item)])
        items[:] = kept

    def _is_wanted(self, item: pytest.Item) -> bool:
        benchmark = item.stash.get(BENCHMARK, None)
        return benchmark is not None and (self._wanted is None or benchmark.key in self._wanted)

    def _forget_uncertain(self, config: pytest.Config) -> None:
        """Keep of the files those that were certainly seen whole."""
        folders = whole_arguments(config)
        if self._is_partial or config.getoption("lf", default=False):
            self._collected.files.clear()
            return
        files = [file for file in self._collected.files if _is_covered(file, folders, self._root)]
        self._collected.files = files
        self._collected.folders = list(map(str, folders))


def check_accepted(accepted: Collection[str], keys: Collection[str]) -> None:
    """Refuse names that are none.

    Args:
        accepted: the benchmarks that are to be stored.
        keys: those that there are.

    Raises:
        pytest.UsageError: names the wrong one, and near ones.
    """
    for key in accepted:
        if key not in keys:
            near = get_close_matches(key, keys, n=3, cutoff=0.4) or sorted(keys)[:3]
            raise pytest.UsageError(
                f"--pagedkv-accept: this run has no benchmark {key!r}; "
                + (f"near ones: {', '.join(near)}" if near else "it has none at all")
            )


def _is_covered(file: str, folders: list[Path], root: Path) -> bool:
    path = file_of(file, root)
    return any(path.is_relative_to(folder) for folder in folders)

"""Which tests run, and what they are called."""

from pathlib import Path

import pytest

from pytest_pagedkv.perf import keys, suite
from tests.plugin.conftest import Project

CLASS = """
import pytest
def test_plain(): pass

@pytest.mark.pagedkv_perf(group="all", threshold=0.2)
class TestBoth:
    @pytest.mark.pagedkv_perf(metric="wall")
    def test_wall(self, pagedkv_benchmark):
        pagedkv_benchmark(lambda: None, rounds=1)
        pagedkv_benchmark.record(n=1)

    def test_cpu(self, pagedkv_benchmark):
        pagedkv_benchmark.record(n=1)
"""


def test_a_run_has_either_kind_of_test(project: Project) -> None:
    """Performance tests are skipped with a reason by default, and alone with the option or its twin."""
    project.write("sub/test_both.py", CLASS)

    plain, perf = project.run("-rs"), project.perf()
    twin = project.run("-o", "pagedkv_perf=true", "-q")

    plain.assert_outcomes(passed=1, skipped=2)
    plain.stdout.fnmatch_lines(["SKIPPED * a performance test: runs with --pagedkv-perf"])
    plain.stdout.no_fnmatch_line("*pagedkv:*")
    for result in (perf, twin):
        result.assert_outcomes(passed=2, deselected=1)
        result.stdout.fnmatch_lines(["* pagedkv perf *", "2 benchmarks, *", " 2 new"])
    perf.stdout.fnmatch_lines(["pagedkv: perf, baselines perf_baselines (0 benchmarks), seed 0"])
    found = project.benchmarks(".pagedkv-perf/run.json")
    assert {key: (entry["metric"], entry["threshold"], entry["group"]) for key, entry in found.items()} == {
        "sub/test_both.py::TestBoth::test_wall": ("wall", 0.2, "all"),
        "sub/test_both.py::TestBoth::test_cpu": ("cpu", 0.2, "all"),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "colour=3",
            "pagedkv_perf has unknown argument 'colour'; it takes metric, threshold, group, meters, by name",
        ),
        ("'cpu'", "pagedkv_perf has positional arguments"),
        ("metric='gpu'", "metric is 'gpu'; it must be one of 'cpu', 'cuda', 'wall'"),
        ("metric=[]", "metric is []; it must be one of"),
        ("threshold=7", "threshold is 7; it must be a float between 0 and 1, such as 0.07"),
        ("threshold=True", "threshold is True; it must be a float"),
        ("group=1", "group is 1; it must be a string"),
    ],
)
def test_a_wrong_marker_is_a_usage_error(pytester: pytest.Pytester, arguments: str, message: str) -> None:
    """Unknown names and wrong types end any run, and name the test."""
    pytester.makepyfile(
        test_m=f"import pytest\n@pytest.mark.pagedkv_perf({arguments})\ndef test_it(): pass\n"
    )

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_m.py::test_it: *{message.replace('[', '[[]')}*"])


LATE = """
import pytest
def pytest_collection_modifyitems(items):
    for item in items:
        if "late" in item.name:
            item.add_marker(pytest.mark.pagedkv_perf(group="late"))
"""


def test_a_conftest_may_add_the_marker(project: Project) -> None:
    """A marker added in a hook counts in both modes, and its baseline is not stale when -k leaves it out."""
    project.write("conftest.py", LATE)
    project.write(
        "test_l.py",
        "def test_late(pagedkv_benchmark): pagedkv_benchmark.record(n=1)\n"
        "def test_late_too(pagedkv_benchmark): pagedkv_benchmark.record(n=1)\n"
        "def test_now(): pass\n",
    )

    plain, perf = project.run(), project.perf("--pagedkv-update")
    without = project.perf("-k", "not too", "--pagedkv-update")

    plain.assert_outcomes(passed=1, skipped=2)
    perf.assert_outcomes(passed=2, deselected=1)
    without.assert_outcomes(passed=1, deselected=2)
    assert [*project.benchmarks("perf_baselines/counters/test_l.json")] == [
        "test_l.py::test_late",
        "test_l.py::test_late_too",
    ]


SHIPPED = """
import pytest

@pytest.mark.pagedkv_perf
def test_s(pagedkv_benchmark):
    pagedkv_benchmark.record(n=1)
"""


@pytest.fixture
def own_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our suite is put back where it is: `ship` moves it."""
    for module in (keys, suite):
        monkeypatch.setattr(module, "SUITE", module.SUITE)


def ship(project: Project, folder: Path) -> None:
    """Pretend that the suite is installed there, beside tests that are not ours."""
    decoys = [above / "test_decoy.py" for above in folder.parents[:2]]
    for path in (folder / "test_x.py", folder / "test_y.py", *decoys):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SHIPPED)
    project.gated(a={"n": 1})
    project.write(
        "conftest.py",
        "import pathlib\nfrom pytest_pagedkv.perf import keys, suite\n"
        f"keys.SUITE = suite.SUITE = pathlib.Path({str(folder)!r})\n",
    )
    project.pytester.makeini("[pytest]\n")


ALL = [
    "pytest_pagedkv/suite/test_x.py::test_s",
    "pytest_pagedkv/suite/test_y.py::test_s",
    "test_gated.py::test_gated[a]",
]


@pytest.mark.usefixtures("own_suite")
def test_the_shipped_suite_comes_along(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without paths the suite is run too, wherever it is installed and whatever the user calls his tests."""
    ship(project, tmp_path_factory.mktemp("lib") / "site" / "suite")

    everything = project.perf("--pagedkv-update")
    found = sorted(project.benchmarks(".pagedkv-perf/run.json"))
    named, off = project.perf("test_gated.py"), project.perf("-o", "pagedkv_suite=false")
    foreign = project.perf("-o", "python_functions=bench_*", "-o", "python_files=gated*")
    also = project.perf("-o", "python_functions=bench_*", "-o", "python_files=*.py")

    assert [run.ret for run in (everything, named, off, foreign, also)] == [0, 0, 0, 0, 0]
    assert found == ALL
    assert sorted(path.stem for path in (project.path / "perf_baselines" / "counters").iterdir()) == [
        "test_gated",
        "test_x",
        "test_y",
    ]
    for alone in (named, off):
        alone.stdout.fnmatch_lines(["1 benchmark, *", " 1 unchanged"])
        alone.stdout.no_fnmatch_line(" stale *")
    for run in (foreign, also):
        run.stdout.fnmatch_lines(["2 benchmarks, *", " 2 unchanged"])
        run.stdout.no_fnmatch_line(" stale pytest_pagedkv*")


@pytest.mark.usefixtures("own_suite")
def test_the_shipped_suite_is_found_in_a_virtual_environment(project: Project) -> None:
    """Installed in a folder under the root that pytest skips, it is run, and nothing else from there."""
    ship(project, project.path / ".venv" / "site" / "suite")

    assert project.perf().ret == 0

    assert sorted(project.benchmarks(".pagedkv-perf/run.json")) == ALL


def test_keys_and_files_belong_together(tmp_path: Path) -> None:
    """A key leads back to its file, in the project, beside it, or in the installed suite."""
    for path in (tmp_path / "a" / "test_a.py", tmp_path.parent / "test_b.py", keys.SUITE / "test_c.py"):
        assert keys.file_of(keys.file_key(path, tmp_path) + "::t", tmp_path).resolve() == path.resolve()
    assert keys.file_key(tmp_path / "test_\udcff.py", tmp_path) == r"test_\udcff.py"  # bytes that are no text
    assert keys.file_key(keys.SUITE / "test_c.py", tmp_path) == "pytest_pagedkv/suite/test_c.py"
    assert keys.file_key(keys.SUITE / "test_c.py", keys.SUITE.parents[1]) == "pytest_pagedkv/suite/test_c.py"

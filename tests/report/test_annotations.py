"""The annotations: one line each, within what GitHub shows."""

from pytest_pagedkv.report.annotations import MOST, annotations
from tests.report.runs import benchmark, failed, failing_run, run_file


def test_a_failure_marks_its_test() -> None:
    """File, line, title; then the benchmark, times, change and counters, with percent signs escaped."""
    (line,) = annotations(run_file(failed()))

    assert line == (
        "::error file=tests/perf/test_a.py,line=12,title=pagedkv perf%3A worse::"
        "tests/perf/test_a.py::test_slow   cpu 652us -> 731us   +12.1%25 [+10.7, +13.5] (T 7%25)   "
        "cow_copies 0 -> 128 (worse), python_calls 1204 -> 1350 (+12.1%25, worse)"
    )


def test_only_failures_are_errors() -> None:
    """Too noisy and incomparable warn, new and improved are told, no change is silent."""
    kinds = [line.partition(" ")[0].strip(":") for line in annotations(failing_run())]

    assert kinds == ["error"] * 5 + ["warning"] * 2 + ["notice"] * 2


def test_there_are_never_more_than_github_shows() -> None:
    """The last one says how many are missing."""
    many = [failed(f"t/test_a.py::test_{index}") for index in range(MOST + 5)]
    lines = annotations(run_file(*many))

    assert len(lines) == MOST
    assert lines[-1].endswith("::6 more are not shown here; the summary and the report page have all")
    assert len(annotations(run_file(*many[:MOST]))) == MOST


def test_no_file_outside_of_the_repository_is_marked() -> None:
    """A path that leads out, or none, leaves the place away."""
    for path in ("/etc/passwd", "../a.py", None, 7, ""):
        (line,) = annotations(run_file(failed(file=path)))
        assert line.startswith("::error title=")


def test_commas_and_colons_stay_inside_of_their_property() -> None:
    """A file name cannot add properties."""
    (line,) = annotations(run_file(failed(file="a,line=1:b%.py", line=-1)))

    assert line.startswith("::error file=a%2Cline=1%3Ab%25.py,title=pagedkv perf%3A worse::")


def test_errors_of_the_run_come_first() -> None:
    """What kept the run from judging is more than any benchmark."""
    assert annotations(run_file(benchmark(), errors=["no base"]))[0] == "::error title=pagedkv perf::no base"

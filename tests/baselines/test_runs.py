"""The file of a run, compared with what is stored."""

import pytest

from tests.baselines.conftest import PASSED, Project, changed, key


def test_a_run_says_nothing_of_what_it_did_not_run(project: Project) -> None:
    """Against a run, what did not run is neither new nor gone; what it found stale is gone."""
    project.ran(
        {
            key("admit"): {"counters": {"blocks_allocated": 650, "steps": 7}},
            key("brand"): {"counters": {"n": 4}, "verdict": "new"},
        },
        stale=(key("free"), key("never")),
    )

    found = project.baselines("diff", "HEAD", ".pagedkv-perf/run.json")

    assert changed(project, "HEAD", ".pagedkv-perf/run.json") == {
        "admit": (640, 650),
        "brand": (None, 4),
        "free": (1, None),
    }
    assert found.stdout.endswith("1 worse, 1 new, 1 gone, 0 unchanged, 1 not in the run\n")
    assert changed(project, ".pagedkv-perf/run.json", "HEAD") == {
        "admit": (650, 640),
        "brand": (4, None),
        "free": (None, 1),
    }


def test_a_run_has_no_reasons(project: Project) -> None:
    """A reason that is stored is no difference from a run, which has none."""
    project.ran({key("fork"): {"counters": {"cow_copies": 3, "cache_hits": 10}, "verdict": "same"}})

    assert project.baselines("diff", "HEAD", ".pagedkv-perf/run.json", "--exit-code").code == 0


def test_what_a_run_cannot_vouch_for_is_noted(project: Project) -> None:
    """Benchmarks that failed, depend on luck or ran under another seed are left out, and why is said."""
    lucky = "nondeterministic counter n: 1 under PYTHONHASHSEED=0, 2 under PYTHONHASHSEED=1"
    counters = {"n": 9}
    project.ran(
        {
            key("admit"): {"counters": counters, "outcomes": PASSED | {"call": "failed"}, "verdict": None},
            key("fork"): {"counters": counters, "verdict": "nondeterministic", "details": [lucky]},
            key("free"): {"counters": counters, "counters_verdict": "incomparable", "verdict": "same"},
            key("plain"): {"counters": {}, "verdict": None},
            key("skip"): {"counters": None, "verdict": None, "outcomes": {"setup": "skipped"}},
        }
    )

    notes = project.json("diff", "HEAD", ".pagedkv-perf/run.json")["notes"]

    assert changed(project, "HEAD", ".pagedkv-perf/run.json") == {}
    assert notes == [
        f"{key('admit')}: not compared, it did not pass: call failed",
        f"{key('fork')}: not compared, {lucky}",
        f"{key('free')}: not compared, it ran under another seed than the baselines",
        f"{key('plain')}: not compared, it counts nothing",
        f"{key('skip')}: not compared, it did not pass: setup skipped",
    ]
    assert project.baselines("diff", "HEAD", ".pagedkv-perf/run.json").stdout.count("note     tests/") == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is no run file: its schema is None, and this version reads 'pagedkv-run/1'"),
        ('{"schema": "pagedkv-run/2"}', "is no run file: its schema is 'pagedkv-run/2'"),
        ("[]", "it should be a JSON object, and is []"),
        ("[" * 100000, "no run file, as it is not JSON"),
        ('{"schema": "pagedkv-run/1"}', "benchmarks should be a JSON object, and is None"),
        ('{"schema": "pagedkv-run/1", "benchmarks": {"x": 1}}', "'x' should be a JSON object, and is 1"),
        (
            '{"schema": "pagedkv-run/1", "benchmarks": {"x": {"counters": {"n": true}}}}',
            "counter 'n' of 'x' is True, not an integer",
        ),
        (
            '{"schema": "pagedkv-run/1", "benchmarks": {"x": {"details": "abc"}}}',
            "details should be a list of strings, and is 'abc'",
        ),
    ],
)
def test_damaged_run_files(project: Project, text: str, message: str) -> None:
    """A run file that is none is refused with its name and the fault."""
    project.write("run.json", text)

    found = project.fails("diff", "HEAD", "./run.json")

    assert found.startswith("pagedkv: ./run.json: ")
    assert message in found

"""`--pagedkv-against`: base and head take turns, and a slowdown is a failed test."""

import json
import shutil
import sys

import pytest

from tests.plugin.conftest import Project
from tests.plugin.duets import BENCHMARK, ENGINE, DuetProject, git


@pytest.fixture
def duet(project: Project) -> DuetProject:
    """A repository whose head is its base."""
    return DuetProject(project)


MANY = """
import pytest
import engine

def benchmark(pagedkv_benchmark, cost):
    def work():
        engine.NOW += cost

    pagedkv_benchmark(work)

@pytest.mark.pagedkv_perf
def test_slower(pagedkv_benchmark):
    benchmark(pagedkv_benchmark, engine.COST * 112 // 100 if engine.IS_HEAD else engine.COST)

@pytest.mark.pagedkv_perf
def test_slightly_slower(pagedkv_benchmark):
    benchmark(pagedkv_benchmark, engine.COST * 105 // 100 if engine.IS_HEAD else engine.COST)

@pytest.mark.pagedkv_perf(threshold=0.03)
def test_slightly_slower_and_strict(pagedkv_benchmark):
    benchmark(pagedkv_benchmark, engine.COST * 105 // 100 if engine.IS_HEAD else engine.COST)

@pytest.mark.pagedkv_perf
def test_faster(pagedkv_benchmark):
    benchmark(pagedkv_benchmark, engine.COST * 80 // 100 if engine.IS_HEAD else engine.COST)

@pytest.mark.pagedkv_perf
def test_same(pagedkv_benchmark):
    benchmark(pagedkv_benchmark, engine.COST)
"""


def test_each_benchmark_gets_its_verdict(duet: DuetProject) -> None:
    """12% slower fails; 5% is seen, and fails where 3% is the threshold; faster and unchanged pass."""
    duet.project.write("test_engine.py", MANY)
    engine = duet.project.read("engine.py")
    duet.project.write("engine.py", engine + "IS_HEAD = False\n")
    duet.commit()
    duet.project.write("engine.py", engine + "IS_HEAD = True\n")
    result = duet.project.perf("--pagedkv-against=main", "--junitxml=junit.xml")
    assert result.ret == 10
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "base main@???????, head ??????? with local changes, duet 30 rounds, confirm 4 pairs, *",
            " FAIL  test_engine.py::test_slightly_slower_and_strict",
            " *cpu 1.00ms -> 1.05ms  +5.0% [[]+5.0, +5.0] (T 3%)",
            " FAIL  test_engine.py::test_slower",
            " *cpu 1.00ms -> 1.12ms  +12.0% [[]+12.0, +12.0] (T 7%)",
            " note  test_engine.py::test_faster   improved: cpu 1.00ms -> 800us  -20.0% *",
            " time: 2 * (smallest detectable here ~3% to 7%)",
        ]
    )
    assert "+12.0%" in duet.project.read("junit.xml")
    told = duet.project.benchmarks(".pagedkv-perf/run.json")
    verdicts = {key.partition("::test_")[2]: each["verdict"] for key, each in told.items()}
    assert verdicts == {
        "slower": "worse",
        "slightly_slower": "same",
        "slightly_slower_and_strict": "worse",
        "faster": "better",
        "same": "same",
    }
    pairs = {key.partition("::test_")[2]: each["duet"]["pairs"] for key, each in told.items()}
    assert [pair["stage"] for pair in pairs["slightly_slower"]] == ["screen"] + ["confirm"] * 4
    assert [pair["stage"] for pair in pairs["same"]] == ["screen"]
    assert {len(pair["base_ns"]) for each in pairs.values() for pair in each} == {30}
    assert duet.worktrees() == []


def test_an_empty_commit_changes_nothing(duet: DuetProject) -> None:
    """Equal code passes after one pair, and nobody says that the times are equal.

    A worktree of the user's own that is elsewhere at the moment is not forgotten.
    """
    duet.commit("nothing")
    theirs = duet.path.parent / f"{duet.path.name}-feature"
    git(duet.path, "worktree", "add", str(theirs), "-b", "feature")
    theirs.rename(theirs.with_name("moved"))
    result = duet.project.perf("--pagedkv-against=main~1")
    assert result.ret == 0
    result.stdout.fnmatch_lines([" time: 1 no change detected *"])
    assert duet.worktrees() == [f"worktree {theirs}"]


def test_a_project_below_the_top_of_its_repository_through_a_symlink(
    duet: DuetProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each side imports its own tree."""
    inner = duet.path / "python packages" / "engine"
    inner.mkdir(parents=True)
    for name in ("conftest.py", "engine.py", "test_engine.py", "tox.ini"):
        (duet.path / name).rename(inner / name)
    duet.commit("moved")
    (inner / "engine.py").write_text((inner / "engine.py").read_text().replace("1000000", "1030000"))
    link = duet.path.parent / f"{duet.path.name}-link"
    link.symlink_to(inner)
    monkeypatch.chdir(link)
    result = duet.project.perf(
        "--pagedkv-against=main", f"--rootdir={link}", "-c", f"{link}/tox.ini", str(link)
    )
    assert result.ret == 0
    assert (duet.told(inner)["base_ns"], duet.told(inner)["head_ns"]) == (1e6, 1.03e6)


def test_a_base_is_built_before_it_is_timed(duet: DuetProject) -> None:
    """By a command of the user's, in the base's worktree; its failure ends the run."""
    duet.project.write("engine.py", "from built import COST\n" + ENGINE.replace("COST = {cost}\n", ""))
    duet.project.write(".gitignore", duet.project.read(".gitignore") + "built.py\n")
    duet.commit("needs to be built")
    duet.project.write("built.py", "COST = 1_030_000\n")
    build = "--pagedkv-base-setup=echo 'COST = 1_000_000' > built.py"
    assert duet.project.perf("--pagedkv-against=main", build).ret == 0
    assert (duet.told()["base_ns"], duet.told()["head_ns"]) == (1e6, 1.03e6)
    result = duet.project.perf("--pagedkv-against=main", "--pagedkv-base-setup=echo no compiler; exit 3")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*ended with 3 in the base's tree*", "*| no compiler*"])


def test_a_folder_that_is_no_such_project(duet: DuetProject) -> None:
    """None of the benchmarks is there: that is a mistake, and not a pass."""
    other = duet.path.parent / f"{duet.path.name}-other"
    other.mkdir()
    result = duet.project.perf(f"--pagedkv-against={other}")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*has none of the 1 benchmark; is --pagedkv-against the folder*"])
    report = json.loads(duet.project.read(".pagedkv-perf/run.json"))
    assert report["exit_code"] == 11
    assert "has none of the 1 benchmark" in report["errors"][0]


@pytest.mark.heavy
def test_a_base_on_which_the_test_fails(duet: DuetProject) -> None:
    """A note, and a failure where baselines are required."""
    duet.project.write("engine.py", duet.project.read("engine.py") + "    raise RuntimeError('not yet')\n")
    duet.commit("broken")
    duet.cost(1_000_000)
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 0
    result.stdout.fnmatch_lines([" note *incomparable: *failed in the base's timing process: *not yet*"])
    assert duet.project.perf("--pagedkv-against=main", "--pagedkv-require-baseline").ret == 11


def test_without_stored_counters_those_of_the_base_count(duet: DuetProject) -> None:
    """The base's counters are the baseline of what has none."""
    counted = BENCHMARK + "    pagedkv_benchmark.record(cow_copies=engine.COPIES)\n"
    duet.project.write("test_engine.py", counted)
    duet.project.write("engine.py", duet.project.read("engine.py") + "COPIES = 0\n")
    duet.commit()
    duet.project.write("engine.py", duet.project.read("engine.py").replace("COPIES = 0", "COPIES = 128"))
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 10
    result.stdout.fnmatch_lines([" FAIL *cow_copies 0 -> 128 (worse)*"])


def test_a_benchmark_that_the_base_does_not_have_is_new(duet: DuetProject) -> None:
    """It passes, as does a whole file that is new."""
    more = BENCHMARK.replace("test_work", "test_more")
    duet.project.write("test_engine.py", BENCHMARK + more[more.index("def ") :])
    duet.project.write("test_other.py", BENCHMARK)
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            " note  test_engine.py::test_more   new: cpu not compared: the base does not have it",
            " note  test_other.py::test_work   new: cpu not compared: the base does not have it",
        ]
    )


def test_a_changed_test_is_not_compared(duet: DuetProject) -> None:
    """Where the benchmark's own source differs, its time says nothing about the code."""
    duet.project.write("test_engine.py", BENCHMARK + "    assert engine.NOW\n")
    duet.cost(1_500_000)
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 0
    result.stdout.fnmatch_lines([" note *test_work   incomparable: *the test itself is not the base's*"])


def test_a_base_whose_file_cannot_be_imported(duet: DuetProject) -> None:
    """Its traceback is shown, its benchmarks fail as incomparable, the others are compared."""
    duet.project.write("test_engine.py", "import no_such_module\n")
    duet.commit("broken")
    duet.project.write("test_engine.py", BENCHMARK)
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 11
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*the base's test_engine.py cannot be imported*", "*No module named 'no_such_module'*"]
    )


def test_a_base_that_cannot_be_imported_at_all(duet: DuetProject) -> None:
    """The run ends with 11, and with what the base's process printed."""
    duet.project.write("conftest.py", "import no_such_module\n")
    duet.commit("broken")
    duet.project.write("conftest.py", "import time, engine\ntime.thread_time_ns = lambda: engine.NOW\n")
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 11
    result.stdout.fnmatch_lines(
        ["*the base's timing process ended before its work was done (exit code 4)*", "*no_such_module*"]
    )
    assert duet.worktrees() == []


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("no-such-branch", "there is no commit or folder no-such-branch here"),
        ("./no-such-folder", "there is no such folder"),
        (".", "is the tree that is being tested"),
    ],
)
def test_a_base_that_is_not_there(duet: DuetProject, ref: str, message: str) -> None:
    """A clear message, and exit code 11."""
    result = duet.project.perf(f"--pagedkv-against={ref}")
    assert result.ret == 11
    result.stdout.fnmatch_lines([f"*{message}*"])


def test_a_shallow_clone_without_the_base(duet: DuetProject) -> None:
    """The message says how to fetch it."""
    duet.commit("second")
    clone = duet.path / "clone"
    git(duet.path, "clone", "-q", "--depth=1", duet.path.as_uri(), str(clone))
    result = duet.pytester.run(
        *(sys.executable, "-m", "pytest", "-p", "pytest_pagedkv.plugin", "--pagedkv-perf"),
        *("--pagedkv-against=HEAD~1", "--rootdir=clone", "-c", "clone/tox.ini", "clone"),
    )
    assert result.ret == 11
    result.stdout.fnmatch_lines(
        ["*no commit or folder HEAD~1 in this shallow clone; get more of it by `git fetch --deepen=50`*"]
    )


def test_no_git_at_all(duet: DuetProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the command a folder can still be compared."""
    empty = duet.path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*needs git, and there is no command git*"])


def test_another_checkout_is_left_as_it_is(duet: DuetProject) -> None:
    """A folder works as a base, without git."""
    other = duet.path.parent / f"{duet.path.name}-base"
    shutil.copytree(duet.path, other, ignore=shutil.ignore_patterns(".git"))
    duet.cost(1_030_000)
    result = duet.project.perf(f"--pagedkv-against={other}")
    assert result.ret == 0
    assert (duet.told()["base_ns"], duet.told()["head_ns"]) == (1e6, 1.03e6)
    assert (other / "engine.py").exists()


def test_a_merge_base(duet: DuetProject) -> None:
    """`main...` is where the branch left main: what main has gained since is not missed here."""
    git(duet.path, "switch", "-q", "-c", "feature")
    duet.commit("feature")
    git(duet.path, "switch", "-q", "main")
    duet.cost(500_000)
    duet.commit("faster")
    git(duet.path, "switch", "-q", "feature")
    assert duet.project.perf("--pagedkv-against=main...").ret == 0


@pytest.mark.parametrize(
    ("file", "text", "there", "here", "code", "line"),
    [
        (
            "pyproject.toml",
            '[project]\nname = "x"\ndependencies = ["{}"]\n',
            "pytest<3",
            "pytest",
            11,
            "*asks for what this environment does not have: pytest<3 (here is *",
        ),
        (
            "requirements.txt",
            "{}\n",
            "pytest>=3",
            "pytest>=4",
            0,
            " note  the base asks for pytest>=3; timed with what is installed",
        ),
    ],
    ids=["unmet", "met"],
)
def test_requirements_that_differ(
    duet: DuetProject, file: str, text: str, there: str, here: str, code: int, line: str
) -> None:
    """A base that cannot be timed in this environment is refused, naming what is missing; or it is noted."""
    duet.project.write(file, text.format(there))
    duet.commit()
    duet.project.write(file, text.format(here))
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == code
    result.stdout.fnmatch_lines([line])


def test_code_that_is_not_of_the_tree(duet: DuetProject) -> None:
    """Two sides that import the same installed package would be compared with themselves."""
    installed = duet.path.parent / f"{duet.path.name}-installed"
    installed.mkdir()
    (installed / "engine.py").write_text(duet.project.read("engine.py"))
    (duet.path / "src").mkdir()
    (duet.path / "engine.py").rename(duet.path / "src/engine.py")
    duet.pytester.makeini(f"[pytest]\npagedkv_suite = false\npythonpath = {installed}\n")
    duet.commit()
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*imports engine from *, and not from its own tree*"])


@pytest.mark.heavy
def test_under_xdist(duet: DuetProject) -> None:
    """The controller times before its workers start, and a worker fails the test."""
    duet.cost(1_120_000)
    result = duet.project.perf("--pagedkv-against=main", "-p", "xdist", "-n", "2")
    assert result.ret == 10
    result.assert_outcomes(failed=1)


def test_a_test_that_asks_for_few_rounds_is_not_judged(duet: DuetProject) -> None:
    """One round is no evidence."""
    duet.project.write("test_engine.py", BENCHMARK.replace("engine.work)", "engine.work, rounds=1)"))
    duet.commit()
    duet.cost(1_500_000)
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 0
    assert "time:" not in [line.split()[0] for line in result.outlines if line.startswith(" ")]
    assert duet.told()["verdict"] is None


@pytest.mark.heavy
def test_the_self_test_keeps_what_the_machine_spreads(duet: DuetProject) -> None:
    """Code against itself: later thresholds are at least three times the spread, here without noise none."""
    result = duet.project.perf("--pagedkv-selftest")
    assert result.ret == 0
    spreads = json.loads(duet.project.read(".pagedkv-perf/selftest.json"))["spreads"]
    assert spreads == {"test_engine.py::test_work": 0.0}
    spread = duet.project.read(".pagedkv-perf/selftest.json").replace('test_work": 0.0', 'test_work": 0.05')
    duet.project.write(".pagedkv-perf/selftest.json", spread)
    duet.cost(1_080_000)  # more than 0.6 x 7%, less than 0.6 x 15%: passed by the first pair
    result = duet.project.perf("--pagedkv-against=main")
    assert result.ret == 0
    result.stdout.fnmatch_lines([" time: 1 no change detected (smallest detectable here ~15%)"])
    assert len(duet.told()["pairs"]) == 1


def test_a_self_test_of_another_machine_is_not_used(duet: DuetProject) -> None:
    """The note names the field."""
    told = {"schema": "pagedkv-selftest/1", "environment": {"cpu_count": "1000"}, "spreads": {}}
    duet.project.write(".pagedkv-perf/selftest.json", json.dumps(told))
    result = duet.project.perf("--pagedkv-against=main")
    result.stdout.fnmatch_lines(
        [" note  selftest.json is of another environment (*cpu count * here, 1000 there*"]
    )

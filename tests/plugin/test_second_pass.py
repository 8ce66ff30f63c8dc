"""Counting twice: what differs is refused, and the other process leaves no trace."""

import json
import subprocess
import sys

import pytest

from pytest_pagedkv.baselines import SecondPass
from tests.plugin.conftest import Project

ONLY_THERE = "import os\nif os.environ['PYTHONHASHSEED'] == '0' and {condition}:\n    {action}\n"


def test_a_counter_that_differs_is_named_with_both_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every counter that the two passes do not agree on gets a line; equal ones get none."""
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    second = SecondPass("0", {"t": {"a": 1, "b": 2, "gone": 3}}, {"failed": "failed (ValueError)"})

    assert second.disagreement("t", {"a": 1, "b": 2, "gone": 3}) == ()
    assert second.disagreement("t", {"a": 1, "b": 5, "come": 0}) == (
        "nondeterministic counter b: 5 under PYTHONHASHSEED=7, 2 under PYTHONHASHSEED=0",
        "nondeterministic counter come: 0 under PYTHONHASHSEED=7, none under PYTHONHASHSEED=0",
        "nondeterministic counter gone: none under PYTHONHASHSEED=7, 3 under PYTHONHASHSEED=0",
    )
    assert second.disagreement("failed", {})[0].endswith("PYTHONHASHSEED=0 it failed (ValueError)")
    assert second.disagreement("unknown", {})[0].endswith("PYTHONHASHSEED=0 it was not collected")


def test_a_test_that_passes_here_only_depends_on_luck(project: Project) -> None:
    """Passing under one hash seed and failing, or not existing, under another is nondeterministic."""
    project.gated(a={"n": 1}, b={"n": 1})
    module = project.path / "test_gated.py"
    failing = ONLY_THERE.format(condition="name == 'a'", action="raise ValueError(3)").replace("\n", "\n    ")
    absent = ONLY_THERE.format(condition="True", action="del VALUES['b']")
    text = module.read_text().replace("    pagedkv_benchmark(", f"    {failing}\n    pagedkv_benchmark(")
    module.write_text(text.replace("@pytest", f"{absent}\n@pytest"))

    result = project.perf("-o", "addopts=--maxfail=9")

    assert result.ret == 12
    result.stdout.fnmatch_lines(
        [
            "passed under PYTHONHASHSEED=1, under PYTHONHASHSEED=0 it failed (ValueError: 3)",
            "passed under PYTHONHASHSEED=1, under PYTHONHASHSEED=0 it was not collected",
            " 2 nondeterministic",
        ]
    )


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("os._exit(3)", "broke: exit code 3; no test was run"),
        ("os.kill(os.getpid(), 9)", "broke: signal 9; no test was run"),
        ("time.sleep(600)", "broke: it took more than 2 s (ini: pagedkv_second_pass_timeout_s)"),
        ("print('some words'); pytest.exit('enough', returncode=0)", "  | *Exit: enough*"),
        ("raise pytest.UsageError('mine')", "  | ERROR: mine"),
    ],
)
def test_a_pass_that_breaks_ends_the_session(
    project: Project, monkeypatch: pytest.MonkeyPatch, action: str, message: str
) -> None:
    """A crash, a time-out, an exit and a usage error there are told with the end of the output; exit 4."""
    monkeypatch.setenv("THERE", action)
    project.gated(a={"n": 1})
    project.write(
        "conftest.py",
        "import os, pytest, time\n"
        "def pytest_runtestloop():\n"
        "    if os.environ['PYTHONHASHSEED'] == '0':\n"
        "        exec(os.environ['THERE'])\n",
    )

    limit_s = 2 if "sleep" in action else 300
    result = project.perf("-o", f"pagedkv_second_pass_timeout_s={limit_s}", "--pagedkv-update")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the second counting pass (PYTHONHASHSEED=0) broke: *"])
    result.stderr.fnmatch_lines([f"*{message}*"])
    result.stdout.no_fnmatch_line("*passed*")
    assert not (project.path / "perf_baselines").exists()


def test_the_other_process_leaves_no_trace(project: Project) -> None:
    """Whatever writes, stops or asks is off there, however it was switched on, and no test is timed."""
    project.gated(a={"n": 1}, b={"n": 1})
    project.write(
        "conftest.py",
        "import json, os\n"
        "def pytest_configure(config):\n"
        "    assert 'PAGEDKV_COUNTING_FOLDER' not in os.environ\n"
        "    names = 'stepwise xmlpath maxfail usepdb lf basetemp pagedkv_update log_file'.split()\n"
        "    seen = {name: getattr(config.option, name) for name in names}\n"
        "    seen['cache'] = str(config.cache._cachedir)\n"
        "    path = f'seen-{os.environ[\"PYTHONHASHSEED\"]}.json'\n"
        "    config.rootpath.joinpath(path).write_text(json.dumps(seen))\n",
    )
    options = ["--junitxml=junit.xml", "-x", "--lf", "--log-file=log.txt", "--pdb", "--sw-skip"]

    result = project.perf("-o", f"addopts={' '.join(options)}", "--pagedkv-update", "-q")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["pagedkv: counting under PYTHONHASHSEED=0 first, in a second process ..."])
    there = json.loads(project.read("seen-0.json"))
    assert str(project.path) not in there.pop("cache")
    assert set(there.values()) == {None, 0}
    here = json.loads(project.read("seen-1.json"))
    assert (here["maxfail"], here["usepdb"], here["lf"]) == (1, True, True)
    assert here["pagedkv_update"] == "counters"
    assert project.read("junit.xml").count("<testcase") == 2


def test_only_what_runs_here_is_counted_there(project: Project) -> None:
    """The other process runs exactly the selected benchmarks, and finds its imports where this one does."""
    project.write(
        "t/test_it.py",
        "import os, pytest, sys\n"
        "@pytest.mark.pagedkv_perf\n"
        "@pytest.mark.parametrize('name', ['a', 'b'])\n"
        "def test_it(name, pagedkv_benchmark):\n"
        "    seed = os.environ['PYTHONHASHSEED']\n"
        "    print(name, seed, os.getcwd() in sys.path, file=open('log', 'a'))\n"
        "    pagedkv_benchmark.record(n=1)\n",
    )
    options = ["-p", "pytest_pagedkv.plugin", "--pagedkv-perf", "-k", "[b]"]
    project.is_apart = True

    subprocess.run([sys.executable, "-P", "-m", "pytest", *options], cwd=project.path, check=True)
    project.perf("-k", "[b]")

    assert project.read("log").splitlines() == ["b 0 False", "b 1 False", "b 0 True", "b 1 True"]


def test_nothing_is_counted_where_nothing_runs(project: Project) -> None:
    """With --collect-only, or a file that cannot be collected, there is no second process and no file."""
    project.gated(a={"n": 1})

    collected = project.perf("--collect-only", "-q")
    project.write("test_broken.py", "import nothing_of_that_name\n")
    broken = project.perf()

    assert (collected.ret, broken.ret) == (0, pytest.ExitCode.INTERRUPTED)
    for result in (collected, broken):
        result.stdout.no_fnmatch_line("pagedkv: counting*")
        result.stdout.no_fnmatch_line("*pagedkv perf*")
    assert not (project.path / ".pagedkv-perf").exists()

"""What `pagedkv baselines diff` says of two sets of baselines."""

import re

import pytest

from pytest_pagedkv.baselines.commands.markdown import code
from pytest_pagedkv.baselines.commands.moves import Move
from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.slower import Slowdown
from tests.baselines.conftest import TEST_FILE, Project, key

TEXT = """\
main@{sha} -> perf_baselines

worse    tests/perf/test_pool.py::test_fork
  cow_copies     3 ->  128  +4166.7%  worse
  free_runs absent ->    2            changed
  cache_hits    10 ->   11    +10.0%  better
  reason: a | b, `c`
changed  tests/perf/test_pool.py::test_admit
  steps 7 -> 6 -14.3%  changed
new      tests/perf/test_pool.py::test_late   2 counters
gone     tests/perf/test_pool.py::test_free   1 counter

1 worse, 1 changed, 1 new, 1 gone, 0 unchanged
"""


@pytest.fixture
def moved(project: Project) -> Project:
    """The project, after everything that can happen to a baseline did."""
    project.store(
        {
            key("admit"): Entry({"blocks_allocated": 640, "steps": 6}),
            key("fork"): Entry({"cow_copies": 128, "free_runs": 2, "cache_hits": 11}, "a | b, `c`"),
            key("late"): Entry({"n": 1, "m": 2}),
        }
    )
    return project


def words(text: str) -> list[list[str]]:
    """Lines as words, whatever the columns."""
    return [line.split() for line in text.splitlines()]


def test_text_shows_the_worst_first(moved: Project) -> None:
    """A block for each benchmark with its counters, reason and direction, and a line that counts them."""
    found = moved.baselines("diff", "main")

    assert (found.code, found.stderr) == (0, "")
    assert words(found.stdout) == words(TEXT.format(sha=moved.git("rev-parse", "--short=7", "main")))


def test_columns_stand_below_each_other(moved: Project) -> None:
    """The arrows of one benchmark are in one column, and so are the verdicts."""
    lines = moved.baselines("diff").stdout.splitlines()[3:6]

    assert len({line.index("->") for line in lines}) == 1
    assert len({re.search("worse|changed|better", line).start() for line in lines}) == 1  # type: ignore[union-attr]


def test_json_has_both_sides(moved: Project) -> None:
    """Each change has both entries, and what differs in them with a verdict."""
    changes = {change["benchmark"]: change for change in moved.json("diff", "main")["changes"]}

    assert {name: change["change"] for name, change in changes.items()} == {
        key("fork"): "worse",
        key("admit"): "changed",
        key("late"): "new",
        key("free"): "gone",
    }
    assert changes[key("admit")]["moves"] == [
        {"name": "steps", "before": 7, "after": 6, "verdict": "changed"}
    ]
    assert changes[key("fork")]["before"]["reason"] == "beams share less"
    assert changes[key("free")]["after"] is None
    assert moved.json("diff", "main") == {
        **moved.json("diff"),
        "before": moved.json("diff", "main")["before"],
    }


def test_markdown_is_a_table_that_names_cannot_break(moved: Project) -> None:
    """Every row has as many cells as the head, and a name stands in code with its bars escaped."""
    moved.store({key("admit[a|b`c]"): Entry({"n|m": 1})}, "before")
    moved.store({key("admit[a|b`c]"): Entry({"n|m": 2})}, "after")

    odd = moved.baselines("diff", "./before", "./after", "--format", "markdown").stdout
    usual = moved.baselines("diff", "main", "--format", "markdown").stdout

    assert "| changed | ``tests/perf/test_pool.py::test_admit[a\\|b`c]`` | `n\\|m` | 1 | 2 | +100.0% |" in odd
    assert "| reason |  | ``a \\| b, `c` `` |" in usual.replace("`` a", "``a")
    assert "- new: `tests/perf/test_pool.py::test_late`, 2 counters" in usual
    assert "- gone: `tests/perf/test_pool.py::test_free`\n" in usual
    assert "**1 worse, 1 changed, 1 new, 1 gone, 0 unchanged**" in usual
    rows = [line for line in (odd + usual).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_markdown_folds_the_long_rest(folder: Project) -> None:
    """The worst stay visible; the rest, and long lists of new ones, are a click away and complete."""
    numbers = range(40)
    folder.store({key(f"{n:02}"): Entry({"cow_copies": n}) for n in numbers}, "a")
    folder.store({key(f"{n:02}"): Entry({"cow_copies": 38}) for n in numbers}, "b")
    folder.store({key(f"{n:02}", "tests/test_new.py"): Entry({"n": 1}) for n in numbers}, "b")

    text = folder.baselines("diff", "a", "b", "--format", "markdown").stdout

    visible, *details = text.split("<details>")
    assert [each.partition("</summary>")[0].removeprefix("<summary>") for each in details] == [
        "21 rows more",
        "40 new",
    ]
    assert "| worse |" in visible
    assert "| better |" not in visible
    assert "| better | `tests/perf/test_pool.py::test_39` | `cow_copies` | 39 | 38 | -2.6% |" in text
    assert text.count("| worse |") == 38
    assert text.count("- new:") == 40
    assert text.count("</details>") == 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("``a", "``` ``a ```"),
        ("", "`  `"),
        ("a\nb\x1b[31m", "`a b\\x1b[31m`"),
        ("a|b", "`a\\|b`"),
        ("@team <b>", "`@team <b>`"),
    ],
)
def test_code_spans_show_anything(name: str, shown: str) -> None:
    """Whatever a name contains, the span ends where it should and stays on its line and in its cell."""
    assert code(name) == shown


def test_equal_baselines(project: Project) -> None:
    """No change is one line, and exit code 0 with --exit-code too."""
    found = project.baselines("diff", "--exit-code")

    assert found.code == 0
    assert found.stdout.splitlines()[2:] == ["3 unchanged"]


def test_exit_code_is_that_of_git_diff(moved: Project) -> None:
    """Differences are 0 unless --exit-code is given, and then 1; in every format."""
    assert moved.baselines("diff").code == 0
    for form in ("text", "markdown", "json"):
        assert moved.baselines("diff", "--exit-code", "--format", form).code == 1


def test_another_reason_is_a_change(project: Project) -> None:
    """A reason that was added or withdrawn is shown although no counter moved."""
    project.store(
        {
            key("admit"): Entry({"blocks_allocated": 640, "steps": 7}, "it was right"),
            key("fork"): Entry({"cow_copies": 3, "cache_hits": 10}),
            key("free"): Entry({"n": 1}),
        }
    )

    lines = project.baselines("diff", "--exit-code").stdout.splitlines()

    assert lines[2:6] == [
        f"reason   {key('admit')}",
        "  reason: it was right",
        f"reason   {key('fork')}",
        "  its reason is withdrawn",
    ]
    assert lines[-1] == "2 with another reason, 1 unchanged"
    assert "| reason |" in project.baselines("diff", "--format", "markdown").stdout


def test_a_narrow_terminal(moved: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name and its word do not fit on a line, the name is parted behind its file."""
    monkeypatch.setenv("COLUMNS", "45")

    moved.store({key("fork[16-cached]"): Entry({"n": 1})})
    lines = moved.baselines("diff").stdout.splitlines()

    assert max(map(len, lines)) <= 45
    assert lines[2:4] == [f"new      {TEST_FILE}::", "         test_fork[16-cached]   1 counter"]


def test_names_cannot_steer_the_terminal(folder: Project) -> None:
    """Escape sequences and line breaks in names, counters and reasons are shown and not obeyed."""
    for side, value in (("a", 1), ("b", 2)):
        folder.store({key("x[\x1b[31m]"): Entry({"n\r\x07": value}, f"why\n\x9b {side}")}, side)

    text = folder.baselines("diff", "a", "b").stdout

    assert not set(text) & set("\x1b\r\x07\x9b")
    assert "test_x[\\x1b[31m]" in text
    assert "  reason: why \\x9b b" in text


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (100, 110, "+10.0%"),
        (100, 90, "-10.0%"),
        (100, 0, "-100.0%"),
        (-100, -110, "+10.0%"),
        (10**30, 10**30 + 1, "+<0.1%"),
        (10000, 9999, "-<0.1%"),
        (1, 101, "+100x"),
        (1, 10**400, f"+{10**400 - 1}x"),
        (3, 10**300, f"+{(10**300 - 3) // 3}x"),
        (10**400, 2 * 10**400, "+100.0%"),
        (0, 5, ""),
        (None, 5, ""),
        (5, None, ""),
        (5, 5, ""),
    ],
)
def test_percent(before: int | None, after: int | None, shown: str) -> None:
    """The change relative to what was, for integers of any size; nothing where that is no number."""
    assert Move(name="n", before=before, after=after, verdict=Verdict.WORSE).percent == shown


def test_times_move_by_more_than_they_scatter(folder: Project) -> None:
    """Of stored times, only what exceeds half the tolerance is a change; slower is worse."""
    for side, factor in (("a", 1.0), ("b", 1.5)):
        folder.store_times(
            {
                key("slow"): (10 * factor,),
                key("fast"): (10 / factor, 10 / factor),
                key("same"): (10 + factor,),
            },
            "cpu-a",
            side,
        )

    found = folder.baselines("diff", "a", "b", "--exit-code")

    assert found.code == 1
    assert found.stdout.splitlines()[2:] == [
        "timing cpu-a",
        f"worse    {key('slow')}",
        "  cpu x reference  10.0 -> 15.0 +50.0%  worse",
        f"better   {key('fast')}",
        "  cpu x reference  10.0 -> 6.667 -33.3%  better",
        "",
        "1 worse, 1 better, 1 unchanged",
    ]


def test_times_that_cannot_be_compared(folder: Project) -> None:
    """Another source or clock makes a time neither better nor worse, and another machine no time at all."""
    folder.store_times({key("a"): (10.0,), key("b"): (10.0,)}, "cpu-a", "a")
    folder.store_times({key("a"): (20.0,)}, "cpu-a", "b", source="new")
    folder.store_times({key("d"): (10.0,)}, "cpu-d", "a")
    folder.store_times({key("d"): (10.0,)}, "cpu-d", "b", source="new")
    folder.store_times({key("b"): (20.0,)}, "cpu-b", "b")
    folder.store_times({key("c"): (20.0,)}, "cpu-c", "a")
    folder.store_times({key("c"): (10.0,)}, "cpu-c", "b", cpu_model="7")

    lines = folder.baselines("diff", "a", "b").stdout.splitlines()

    assert "  cpu x reference  10.0 -> 20.0 +100.0%  changed, the benchmark's source changed" in lines
    assert f"new      {key('b')}   cpu x reference 20, 1 run" in lines
    assert f"gone     {key('b')}   cpu x reference 10, 1 run" in lines
    assert "note     timings of cpu-c: not compared, cpu model 7 here, 1 there" in lines
    assert lines[-1] == "2 changed, 1 new, 1 gone, 0 unchanged"
    assert "  cpu x reference  10.0 -> 10.0   changed, the benchmark's source changed" in lines
    assert [line for line in lines if line.startswith("timing")] == [
        "timing cpu-a",
        "timing cpu-b",
        "timing cpu-d",
    ]
    markdown = folder.baselines("diff", "a", "b", "--format", "markdown").stdout
    assert "`cpu x reference` (the benchmark's source changed)" in markdown


def test_times_of_commits(project: Project) -> None:
    """Timings are read from a commit with their environment."""
    project.store_times({key("a"): (10.0,)}, "cpu-a")
    project.commit()
    project.store_times({key("a"): (20.0,)}, "cpu-a")

    assert project.json("diff")["changes"][0]["moves"] == [
        {"name": "cpu x reference", "before": 10.0, "after": 20.0, "verdict": "worse"}
    ]


def test_accepted_slowdowns(project: Project) -> None:
    """A new line is shown with its reason, another one with what was accepted before."""
    project.accept_slower({key("fork"): Slowdown(0.124, "checks")})
    new = project.baselines("diff").stdout
    project.commit()
    project.accept_slower({key("fork"): Slowdown(0.2, "checks more")})

    assert words(new)[2:5] == [["slower"], ["new", key("fork"), "+12.4%", "accepted"], ["reason:", "checks"]]
    assert words(project.baselines("diff").stdout)[2:6] == [
        ["slower"],
        ["worse", key("fork")],
        ["accepted", "0.124", "->", "0.2", "+61.3%", "worse"],
        ["reason:", "checks", "more"],
    ]
    assert "0.124" in project.baselines("diff", "--format", "markdown").stdout

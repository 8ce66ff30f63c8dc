"""The markdown: what it tells, in which order, and how long it may become."""

import pytest

from pagedkv.errors import ConfigError
from pytest_pagedkv.report.markdown import COMMENT_LIMIT, comment, marker, summary
from tests.report.runs import benchmark, duet, failed, failing_run, large_run, passing_run, run_file


def test_a_failure_is_told_in_a_row() -> None:
    """Verdict, times, change with interval and threshold, counters: as in the terminal."""
    text = summary(run_file(failed()))

    assert text.startswith("### pagedkv perf: 1 of 1 benchmark failed (1 worse)\n")
    assert (
        "| **FAIL** worse | `tests/perf/test_a.py::test_slow` | cpu | 652us | 731us "
        "| `+12.1% [+10.7, +13.5] (T 7%)` | `cow_copies 0 -> 128 (worse)`<br>"
    ) in text


def test_what_was_compared_is_told() -> None:
    """Base, head, rounds, pairs, hash seeds, environment."""
    assert (
        "1 benchmark, base `origin/main@abc1234`, head `def5678 with local changes`, duet 30 rounds, "
        "confirm 4 pairs, counted under PYTHONHASHSEED random and 0, `cpu-epyc-zen3_py3.11`\n"
    ) in summary(run_file(benchmark()))


def test_what_needs_somebody_comes_first() -> None:
    """Failures, then what is too noisy or improved, then new ones; what did not change is folded away."""
    text = summary(failing_run())

    opened = text[: text.index("<details>")]
    order = ["**FAIL**", "failed otherwise |", "| too noisy", "| improved", "| incomparable", "| new"]
    places = [opened.index(word) for word in order]
    assert places == sorted(places)
    assert "test_q.py" not in opened
    assert "12 with no change detected (smallest detectable here ~7% cpu)" in opened


def test_no_change_detected_is_never_called_equal() -> None:
    """A passing run says what it could have seen."""
    text = summary(passing_run())

    assert text.startswith("### pagedkv perf: no regression found, 1 improved\n")
    assert "smallest detectable here ~7% cpu" in text


def test_an_empty_run_says_so() -> None:
    """Nothing ran, which is no verdict."""
    assert summary(run_file()).startswith("### pagedkv perf: no benchmark ran\n")


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (run_file(benchmark(), errors=["x"], exit_code=4), "1 error"),
        (run_file(benchmark(), exit_code=2), "exit code 2 (interrupted)"),
        (run_file(benchmark(outcomes={"setup": "failed"}), exit_code=1), "1 failed otherwise"),
        (run_file(failed(verdict="nondeterministic")), "1 of 1 benchmark failed (1 nondeterministic)"),
        (run_file(failed(verdict="better")), "1 of 1 benchmark failed (1 better)"),
    ],
)
def test_the_headline_has_the_verdict(run: dict[str, object], told: str) -> None:
    """A run that failed never reads as one that found no regression."""
    first = summary(run).splitlines()[0]

    assert first == f"### pagedkv perf: {told}"


def test_a_selftest_says_so() -> None:
    """Base against itself is no comparison with another commit."""
    run = run_file(benchmark(), against={"base": "a", "head": "a", "is_selftest": True})

    assert "base against itself (self-test)" in summary(run)


@pytest.mark.parametrize("number", [0, 200, 600])
@pytest.mark.parametrize("letter", ["x", "\N{GREEK SMALL LETTER ALPHA}"])
def test_a_comment_is_never_too_long(number: int, letter: str) -> None:
    """Rows are left out and counted; the first line and the headline stay."""
    many = [failed(f"t/test_{letter * 200}.py::test_{index}", duet=None) for index in range(number)]
    text = comment(run_file(*many, notes=["n" * 1000] * number, stale=["s" * 500] * number))

    assert len(text.encode()) < COMMENT_LIMIT
    assert text.startswith("<!-- pagedkv-perf -->\n### pagedkv perf: ")
    assert ("left out to keep this short" in text) == (number > 0)
    assert text.rstrip().endswith("</details>")


def test_a_run_of_200_fits_into_a_comment() -> None:
    """A usual run loses nothing."""
    assert "left out" not in comment(large_run(200))


def test_counters_against_the_base_say_so_where_baselines_differ() -> None:
    """The stored baseline and the base are two things."""
    text = summary(run_file(failed(duet=duet(0.1, base_counters={"blocks_allocated": 600, "cow_copies": 0}))))

    assert "`cow_copies 0 -> 128 (worse)`<br>`blocks_allocated 600 -> 640 (worse) against base`" in text


@pytest.mark.parametrize(
    ("key", "line"), [("", "<!-- pagedkv-perf -->"), ("gpu-h100", "<!-- pagedkv-perf:gpu-h100 -->")]
)
def test_the_marker_tells_keys_apart(key: str, line: str) -> None:
    """One comment for each kind of a matrix."""
    assert marker(key) == line


@pytest.mark.parametrize("key", ["a--b", "-", "a b", "-->", "\n", "x" * 61, "a-"])
def test_a_key_cannot_end_the_marker(key: str) -> None:
    """What would not be a comment of HTML is refused, and told."""
    with pytest.raises(ConfigError, match="cannot be the key"):
        marker(key)

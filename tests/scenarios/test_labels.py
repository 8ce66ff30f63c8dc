"""Detectors on labelled runs: they are right nearly always, also on seeds that nobody tuned them by."""

import pytest

from tests.measure.pitfall_labels import JUDGING, Label, labelled, score

LEAST = 0.95


def check(labels: list[Label]) -> None:
    """Precision and recall of every detector on these runs."""
    scores, mistakes = score(iter(labels))
    for pitfall, counted in scores.items():
        assert counted.hits, f"no run with {pitfall}"
        assert min(counted.precision, counted.recall) >= LEAST, (pitfall, mistakes)


def test_one_seed() -> None:
    """A seed beyond those of the table: every second of the runs that are quick."""
    quick = [each for each in labelled((21,)) if "agentic" not in each.name]
    check(quick[::2])


@pytest.mark.heavy(reason="takes a minute")
def test_all_judging_seeds() -> None:
    """The table of docs/pitfalls.md."""
    labels = list(labelled(JUDGING))
    assert len(labels) >= 60
    check(labels)

"""`pagedkv pitfalls`, and the findings of `pagedkv replay --mode simulated`."""

import json
from pathlib import Path

import pytest

from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios import SCENARIOS, run
from tests.cli.conftest import Pagedkv


def test_list(pagedkv: Pagedkv) -> None:
    """Without a name it says what there is."""
    found = pagedkv("pitfalls", "--json")
    assert json.loads(found.stdout).keys() == {pitfall.value for pitfall in SCENARIOS}
    shown = pagedkv("pitfalls").stdout
    assert "length_buckets" in shown
    assert "starved" in shown


def test_sick(pagedkv: Pagedkv) -> None:
    """A sick run prints its numbers, and the finding with evidence and advice."""
    scenario = SCENARIOS[Pitfall.FRAGMENTATION]
    outcome = run(scenario.sick["mild"], 3)
    arguments = ("pitfalls", "fragmentation", "--sick", "mild", "--seed", 3)
    found = json.loads(pagedkv(*arguments, "--json").stdout)
    assert found["metrics"] == {each.name: each.read(outcome) for each in scenario.metrics}
    assert found["findings"] == [each.as_dict() for each in outcome.findings]
    shown = pagedkv(*arguments).stdout
    assert "warning fragmentation: " in shown
    assert "  change block_size=16 (now 256): " in shown


def test_cured(pagedkv: Pagedkv) -> None:
    """A cure prints both."""
    found = json.loads(pagedkv("pitfalls", "batch_collapse", "--cure", "length_buckets", "--json").stdout)
    (tried,) = found["cures"]
    assert tried["before"]["findings"][0]["pitfall"] == "batch_collapse"
    assert tried["after"]["findings"] == []
    shown = pagedkv("pitfalls", "batch_collapse", "--cure", "length_buckets").stdout
    assert "before\ncritical batch_collapse: " in shown
    assert "after\nno finding\n" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sick", "none"), "fragmentation has mild, severe, extreme"),
        (("--cure", "none"), "fragmentation has block_size, prefix_caching, reuse, max_running, and all"),
        (("--cure", "all", "--sick", "mild"), "--sick does not go with --cure"),
    ],
)
def test_what_is_not_there(pagedkv: Pagedkv, arguments: tuple[str, ...], said: str) -> None:
    """Unknown names are refused with those that there are."""
    found = pagedkv("pitfalls", "fragmentation", *arguments)
    assert found.code == 2
    assert said in found.stderr


def test_replay_tells_findings(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """A simulated replay ends with what was found, and --json has it."""
    trace = tmp_path / "beams.jsonl"
    pagedkv("workload", "beams", "--requests", 6, "--block-size", 64, "--beam-width", 16, "-o", trace)
    arguments = ("replay", trace, "--mode", "simulated", "--id-block-size", 64, "--num-blocks", 4000)
    (finding,) = json.loads(pagedkv(*arguments, "--json").stdout)["findings"]
    assert finding["pitfall"] == "cow_explosion"
    assert f"{finding['severity']} cow_explosion: {finding['summary']}\n" in pagedkv(*arguments).stdout
    small = pagedkv(*arguments, "--block-size", 16).stdout
    assert small.endswith("no finding\n")

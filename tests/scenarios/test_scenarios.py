"""Scenarios: sick runs log what they are sick of, cured ones do not, and all of them repeat."""

import logging

import pytest

from pagedkv.logs.offload import STALL_RATIO, STALL_SLACK_NS
from pagedkv.logs.scheduler import COLLAPSE_RATIO, COLLAPSE_STEPS
from pagedkv.pitfalls import BatchCollapseThresholds, Pitfall, Thresholds
from pagedkv.scenarios import SCENARIOS, Setup, run

ALARMS = {
    Pitfall.FRAGMENTATION: ("severe", "block_size", "[Allocator] Fragmentation > 0.4"),
    Pitfall.COW_EXPLOSION: ("samples", "fork_mode", "[KV] Copy-on-write: "),
    Pitfall.BATCH_COLLAPSE: ("severe", "length_buckets", "[Scheduler] Batch collapse detected"),
}
"""A sick setup, a setting that cures it, and the line that is gone with it."""


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What runs log, whatever level they are asked for."""
    monkeypatch.setenv("PAGEDKV_LOG_LEVEL", "debug")
    caplog.set_level(logging.DEBUG, logger="pagedkv")
    return caplog


def lines(logged: pytest.LogCaptureFixture, setup: Setup) -> list[str]:
    """Everything that one run logs."""
    logged.clear()
    run(setup, 0)
    return logged.messages


@pytest.mark.parametrize("pitfall", ALARMS)
def test_log_lines(logged: pytest.LogCaptureFixture, pitfall: Pitfall) -> None:
    """Every line of the pitfall is in the sick run, and its alarm is not in the cured one."""
    name, setting, alarm = ALARMS[pitfall]
    scenario = SCENARIOS[pitfall]
    sick = lines(logged, scenario.sick[name])
    for start in scenario.log_lines:
        assert any(line.startswith(start) for line in sick), start
    assert not any(line.startswith(alarm) for line in lines(logged, scenario.cure(setting).setup))


@pytest.mark.parametrize("pitfall", ALARMS)
def test_runs_repeat(pitfall: Pitfall) -> None:
    """The same seed gives the same numbers, another one others."""
    setup = SCENARIOS[pitfall].sick[ALARMS[pitfall][0]]
    first, again, other = (run(setup, seed).result.as_dict() for seed in (5, 5, 6))
    assert first == again != other


def test_the_detector_and_the_log_line_agree_on_a_collapse() -> None:
    """By default they count the same steps."""
    limits = BatchCollapseThresholds()
    assert (limits.reduced_ratio, limits.reduced_steps) == (COLLAPSE_RATIO, COLLAPSE_STEPS)


def test_the_detector_and_the_log_line_agree_on_a_stall() -> None:
    """By default they count the same page-ins."""
    limits = Thresholds().offload_thrash
    assert (limits.stall_ratio, limits.stall_slack_ms) == (STALL_RATIO, STALL_SLACK_NS / 1e6)


@pytest.mark.parametrize("pitfall", SCENARIOS)
def test_every_scenario_says_what_it_is_compared_with(pitfall: Pitfall) -> None:
    """Cures are tried on setups that there are, and their names differ."""
    scenario = SCENARIOS[pitfall]
    assert "severe" in scenario.sick
    assert {cure.of for cure in scenario.cures} <= set(scenario.sick)
    assert len({cure.setting for cure in scenario.cures}) == len(scenario.cures)
    with pytest.raises(KeyError):
        scenario.cure("no such setting")

"""The doctor reads what sick runs log, and names what they are sick of; cured ones leave it silent."""

import logging

import pytest

from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios import SCENARIOS, Setup, run
from tests.doctor.conftest import Doctor

SICK = [
    (pitfall, name)
    for pitfall, scenario in SCENARIOS.items()
    for name in scenario.sick
    if (pitfall, name) != (Pitfall.FRAGMENTATION, "mild")  # below the 0.4 of its log line
]
CURED = [
    (pitfall, each.setting)
    for pitfall, scenario in SCENARIOS.items()
    for each in scenario.cures
    if each.silences
]
QUICK_SICK = [*((pitfall, "severe") for pitfall in SCENARIOS), (Pitfall.LATENCY_SPIKE, "cold kernels")]
QUICK_CURED = [
    (Pitfall.FRAGMENTATION, "block_size"),
    (Pitfall.COW_EXPLOSION, "beam_width"),
    (Pitfall.BATCH_COLLAPSE, "policy"),
    (Pitfall.OFFLOAD_THRASH, "prefetch_blocks"),
    (Pitfall.LATENCY_SPIKE, "deferred_events"),
]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What runs log, all of it."""
    monkeypatch.setenv("PAGEDKV_LOG_LEVEL", "debug")
    caplog.set_level(logging.DEBUG, logger="pagedkv")
    return caplog


def found(doctor: Doctor, logged: pytest.LogCaptureFixture, setup: Setup, seed: int = 0) -> set[Pitfall]:
    """What the doctor finds in the log of a run; every line of it is known to it."""
    logged.clear()
    run(setup, seed)
    diagnosis = doctor("".join(f"{line}\n" for line in logged.messages))
    assert not diagnosis.files[0].num_odd
    for finding in diagnosis.findings:
        assert finding.sources
        assert finding.advice
    return {finding.pitfall for finding in diagnosis.findings}


@pytest.mark.parametrize(("pitfall", "name"), QUICK_SICK)
def test_a_sick_run_is_named(
    doctor: Doctor, logged: pytest.LogCaptureFixture, pitfall: Pitfall, name: str
) -> None:
    """Its own pitfall is found, and no other."""
    assert found(doctor, logged, SCENARIOS[pitfall].sick[name]) == {pitfall}


@pytest.mark.parametrize(("pitfall", "setting"), QUICK_CURED)
def test_a_cured_run_is_healthy(
    doctor: Doctor, logged: pytest.LogCaptureFixture, pitfall: Pitfall, setting: str
) -> None:
    """Nothing is found, though alarms may have sounded now and then."""
    assert found(doctor, logged, SCENARIOS[pitfall].cure(setting).setup) == set()


@pytest.mark.heavy(reason="takes a minute")
@pytest.mark.parametrize("seed", [0, 11, 12, 13])
def test_all_setups(doctor: Doctor, logged: pytest.LogCaptureFixture, seed: int) -> None:
    """Every sick setup, and every one that is cured."""
    wrong = []
    for pitfall, name in SICK:
        if (what := found(doctor, logged, SCENARIOS[pitfall].sick[name], seed)) != {pitfall}:
            wrong.append((pitfall, name, what))
    for pitfall, name in CURED:
        if what := found(doctor, logged, SCENARIOS[pitfall].cure(name).setup, seed):
            wrong.append((pitfall, name, what))
    assert not wrong

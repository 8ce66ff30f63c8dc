"""Snapshots of engines and results of simulations."""

import json
from typing import Any

import pytest

from pagedkv import BlockManager, CacheConfig, Engine, SchedulerConfig
from pagedkv.clock import VirtualClock
from pagedkv.pitfalls.finding import Pitfall, Severity
from pagedkv.recording.plain import as_plain
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import CostModel, SimulatedExecutor
from tests.doctor.conftest import Doctor
from tests.recording.runs import kind


def a_snapshot() -> dict[str, Any]:
    """That of an engine with nothing to do."""
    clock = VirtualClock()
    scheduler = Scheduler(BlockManager(CacheConfig(num_blocks=64)), SchedulerConfig(), clock)
    executor = SimulatedExecutor(clock, CostModel("h200", "tiny", block_size=16))
    with Engine(executor, scheduler) as engine:
        return engine.snapshot()


def test_an_idle_engine_is_healthy(doctor: Doctor) -> None:
    """Its snapshot says nothing, however it is laid out."""
    for indent in (None, 2):
        found = doctor(json.dumps(a_snapshot(), indent=indent))

        assert (found.exit_code, found.files[0].kind) == (0, "engine snapshot")


def test_a_fragmented_pool(doctor: Doctor) -> None:
    """Slots beyond what paging costs are a finding where the pool is short, and none where it is not."""
    plain = a_snapshot()
    plain["pool"]["num_free"] = 2
    plain["pool"]["fragmentation"] |= {"internal_ratio": 0.7, "excess_ratio": 0.4}

    (finding,) = doctor(json.dumps(plain)).findings
    assert (finding.pitfall, finding.severity) == (Pitfall.FRAGMENTATION, Severity.CRITICAL)
    plain["pool"]["num_free"] = 60
    assert not doctor(json.dumps(plain)).findings


def test_requests_that_lost_their_blocks(doctor: Doctor) -> None:
    """Preempted requests are counted, and their tokens summed."""
    plain = a_snapshot()
    plain["requests"] = [{"num_preemptions": number % 2, "num_lost_tokens": 10} for number in range(20)]

    (finding,) = doctor(json.dumps(plain)).findings

    assert finding.evidence["preempted_requests"] == 10
    assert finding.evidence["lost_tokens"] == 100


FOUND = {
    "pitfall": "offload_thrash",
    "severity": "critical",
    "summary": "requests wait",
    "evidence": {"wait_ratio": 0.3, "odd": "x"},
    "advice": [{"change": "prefetch_blocks=4096", "effect": "pages come before"}],
    "sources": [],
}


def test_what_detectors_said_is_taken_over(doctor: Doctor) -> None:
    """Of a simulation, and of an engine whose steps are logged, findings are those in the file."""
    for plain in ({"mode": "simulated", "preemptions": 3}, {"pitfall": "x"}, a_snapshot()):
        (finding,) = doctor(json.dumps(plain | {"findings": [FOUND]})).findings

        assert (finding.pitfall, finding.severity) == (Pitfall.OFFLOAD_THRASH, Severity.CRITICAL)
        assert finding.evidence["wait_ratio"] == 0.3
        assert [each.change for each in finding.advice] == ["prefetch_blocks=4096"]
        assert finding.sources[0].text == "findings"


def test_a_healthy_simulation(doctor: Doctor) -> None:
    """No findings in the file, none told."""
    found = doctor(json.dumps({"mode": "simulated", "findings": []}))

    assert (found.exit_code, found.files[0].kind) == (0, "result of a simulation")


def test_a_simulation_that_preempts(doctor: Doctor) -> None:
    """Half of the requests computed twice is a finding beside those of detectors, unless these tell of it."""
    plain: dict[str, Any] = {"mode": "simulated", "requests": 100, "preemptions": 60, "findings": []}
    told = FOUND | {"pitfall": "batch_collapse", "summary": "told"}

    (finding,) = doctor(json.dumps(plain)).findings
    assert (finding.pitfall, finding.severity) == (Pitfall.BATCH_COLLAPSE, Severity.CRITICAL)
    assert [each.summary for each in doctor(json.dumps(plain | {"findings": [told]})).findings] == ["told"]
    assert not doctor(json.dumps(plain | {"requests": "x", "preemptions": True})).findings


@pytest.mark.parametrize("entry", [None, 3, {}, FOUND | {"pitfall": "x"}, FOUND | {"severity": []}])
def test_entries_that_are_no_findings_are_left_out(doctor: Doctor, entry: Any) -> None:
    """They do no harm, and hide nothing."""
    found = doctor(json.dumps({"mode": "simulated", "findings": [entry, FOUND]}))

    assert len(found.findings) == 1


def test_a_result_without_findings_is_refused(doctor: Doctor) -> None:
    """Nobody looked at its steps, and its sums do not show what a step waited for."""
    found = doctor(json.dumps({"mode": "simulated", "preemptions": 3}))

    assert found.exit_code == 2
    assert "with its findings" in found.files[0].error


@pytest.mark.parametrize("name", ["healthy", "fragmentation", "batch_collapse"])
def test_the_record_of_a_run_has_its_findings(doctor: Doctor, name: str) -> None:
    """What detectors found while it ran is what the doctor says, with the numbers and the advice."""
    record = kind(name)
    found = doctor(json.dumps(as_plain(record)))

    assert found.files[0].kind == "record of a run"
    assert {each.pitfall for each in found.findings} == ({Pitfall(name)} if name != "healthy" else set())
    for told, known in zip(found.findings, record.findings, strict=False):
        assert (told.summary, told.advice, told.evidence) == (known.summary, known.advice, known.evidence)


def test_a_stretch_of_a_run_is_enough(doctor: Doctor) -> None:
    """What was there for some steps only is told with these steps."""
    plain = as_plain(kind("fragmentation"))
    plain["findings"] = []
    (finding,) = doctor(json.dumps(plain)).findings

    assert finding.pitfall is Pitfall.FRAGMENTATION
    assert finding.sources[0].text.startswith("steps 0 to ")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "pagedkv-engine-run/9"}, "reads version 1"),
        ({"timeline": 3}, "timeline should be a list"),
        ({"findings": [{"pitfall": "hunger"}]}, "a finding is damaged"),
    ],
)
def test_a_record_that_cannot_be_used(doctor: Doctor, change: dict[str, Any], reason: str) -> None:
    """It is said what is wrong with it."""
    found = doctor(json.dumps(as_plain(kind("healthy")) | change))

    assert found.exit_code == 2
    assert reason in found.files[0].error

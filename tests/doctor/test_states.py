"""Snapshots of engines and results of simulations."""

import json
import re
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


RESULT = {
    "requests": 100,
    "makespan_ns": 10**9,
    "batch_size_sum": 9000,
    "generated_tokens": 10_000,
    "preemptions": 3,
    "cow_copies": 200,
    "fragmentation_mean_ppm": 300_000,
    "peak_blocks": 1000,
    "num_blocks": 1000,
    "block_size": 16,
    "mode": "simulated",
}


@pytest.mark.parametrize(
    ("changed", "pitfall"),
    [
        ({}, None),
        ({"fragmentation_mean_ppm": 600_000}, Pitfall.FRAGMENTATION),
        ({"cow_copies": 5000}, Pitfall.COW_EXPLOSION),
        ({"preemptions": 60}, Pitfall.BATCH_COLLAPSE),
        ({"offload_num_page_ins": 1000, "offload_num_again": 400}, Pitfall.OFFLOAD_THRASH),
        ({"requests": None, "num_blocks": "inf", "preemptions": [], "cow_copies": True}, None),
    ],
)
def test_results_of_simulations(doctor: Doctor, changed: dict[str, Any], pitfall: Pitfall | None) -> None:
    """Each pitfall that its numbers show is found, and nothing in those of a healthy run."""
    found = doctor(json.dumps(RESULT | changed))

    assert found.files[0].kind == "result of a simulation"
    assert [each.pitfall for each in found.findings] == ([] if pitfall is None else [pitfall])


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
    assert re.search(reason, found.files[0].error), found.files[0].error


def test_what_detectors_found_comes_before_what_is_left(doctor: Doctor) -> None:
    """A snapshot that has findings tells these, once."""
    plain = a_snapshot()
    plain["findings"] = [each.as_dict() for each in kind("fragmentation").findings]
    plain["pool"]["num_free"] = 2
    plain["pool"]["fragmentation"] |= {"internal_ratio": 0.7, "excess_ratio": 0.4}
    (finding,) = doctor(json.dumps(plain)).findings

    assert finding.summary == kind("fragmentation").findings[0].summary

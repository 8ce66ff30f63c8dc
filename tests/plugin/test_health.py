"""What detectors find in the engines of a test, and tests whose engines have to be healthy."""

from dataclasses import fields

import pytest

from pagedkv.pitfalls import Pitfall, Thresholds
from pytest_pagedkv.marker import HealthyMark
from tests.plugin.conftest import Project

WORK = """
import pytest
from pagedkv import SamplingParams
from pagedkv.pitfalls import FragmentationThresholds, Pitfall, Thresholds

LONG = SamplingParams(max_tokens=40, seed=1)

def serve(engine):
    engine.generate([[number] * 20 for number in range(60)], LONG)
    return engine

SICK = dict(num_blocks=32, block_size=256)
WELL = dict(num_blocks=300, block_size=4)
"""

ASKED = f"""{WORK}
def test_sick(pagedkv_engine, pagedkv_findings):
    engine = pagedkv_engine(**SICK)
    assert not pagedkv_findings
    serve(engine)
    assert [each.pitfall for each in pagedkv_findings] == [Pitfall.FRAGMENTATION]
    assert len(pagedkv_findings) == 1 and pagedkv_findings() == list(pagedkv_findings)
    assert "tokens" in pagedkv_findings[0].summary and pagedkv_findings[-1:] == pagedkv_findings()
    assert "fragmentation" in repr(pagedkv_findings)

def test_well(pagedkv_engine, pagedkv_findings):
    serve(pagedkv_engine(**WELL))
    assert list(pagedkv_findings) == []

def test_both(pagedkv_findings, pagedkv_engine):
    for settings in (WELL, SICK):
        serve(pagedkv_engine(**settings))
    (well, nothing), (sick, found) = pagedkv_findings.by_engine()
    assert (nothing, found) == ([], pagedkv_findings())
    assert well.cache.block_size == 4 and len(well) > 16 and sick.cache.block_size == 256

def test_after_its_end(pagedkv_engine, pagedkv_findings):
    engine = serve(pagedkv_engine(**SICK))
    before = pagedkv_findings()
    pagedkv_findings.stop()
    serve(engine)
    assert pagedkv_findings() == before
"""

MARKED = f"""{WORK}
@pytest.mark.pagedkv_healthy
def test_well(pagedkv_engine):
    serve(pagedkv_engine(**WELL))

@pytest.mark.pagedkv_healthy
def test_sick(pagedkv_engine):
    serve(pagedkv_engine(**SICK))

@pytest.mark.pagedkv_healthy
def test_one_of_two(pagedkv_engine):
    serve(pagedkv_engine(**WELL))
    serve(pagedkv_engine(**SICK))

@pytest.mark.pagedkv_healthy(ignore=("fragmentation",))
def test_ignored(pagedkv_engine, pagedkv_findings):
    serve(pagedkv_engine(**SICK))
    assert not pagedkv_findings

@pytest.mark.pagedkv_healthy(thresholds=Thresholds(fragmentation=FragmentationThresholds(excess_ratio=0.99)))
def test_lenient(pagedkv_engine):
    serve(pagedkv_engine(**SICK))

@pytest.mark.pagedkv_healthy
class TestClass:
    @pytest.mark.pagedkv_healthy(ignore=["fragmentation"])
    def test_closest_wins(self, pagedkv_engine):
        serve(pagedkv_engine(**SICK))

    def test_whole_class(self, pagedkv_engine):
        serve(pagedkv_engine(**SICK))

@pytest.mark.pagedkv_healthy
def test_nothing_is_watched():
    pass

@pytest.mark.pagedkv_healthy
def test_nothing_runs(pagedkv_engine):
    pagedkv_engine()

@pytest.mark.pagedkv_healthy
def test_fails_by_itself(pagedkv_engine):
    serve(pagedkv_engine(**SICK))
    assert False, "its own reason"

@pytest.mark.pagedkv_healthy
def test_skips():
    pytest.skip("not today")
"""

OWN_ENGINE = f"""{WORK}
from pagedkv import BlockManager, CacheConfig, Engine, SchedulerConfig
from pagedkv.clock import VirtualClock
from pagedkv.scheduler import Scheduler
from tests.engine.toy import ToyModel

@pytest.fixture
def engine():
    cache = BlockManager(CacheConfig(**SICK))
    clock = VirtualClock()
    with Engine(ToyModel(cache, clock), Scheduler(cache, SchedulerConfig(), clock)) as engine:
        yield engine

@pytest.mark.pagedkv_healthy
def test_real(engine, pagedkv_findings):
    serve(pagedkv_findings.watch(engine))

def test_not_marked(engine, pagedkv_findings):
    assert pagedkv_findings.watch(engine) is engine
    serve(engine)
    assert [each.pitfall for each in pagedkv_findings] == [Pitfall.FRAGMENTATION]
"""

TIMED = f"""{WORK}
@pytest.mark.pagedkv_perf
@pytest.mark.pagedkv_healthy
def test_timed(pagedkv_benchmark, pagedkv_engine, pagedkv_findings):
    pagedkv_benchmark(lambda: serve(pagedkv_engine(**WELL)), rounds=3)
    pagedkv_benchmark.record(watched=len(pagedkv_findings.by_engine()))
"""


def test_findings_can_be_asked_for(project: Project) -> None:
    """During a test and after its engines have run, for all of them and one by one."""
    project.write("test_asked.py", ASKED)

    project.run().assert_outcomes(passed=4)


def test_a_marked_test_fails_with_what_was_found(project: Project) -> None:
    """With the numbers and what to change; where nothing ran there is nothing to be healthy."""
    project.write("test_marked.py", MARKED)

    result = project.run("-rA")

    result.assert_outcomes(passed=4, failed=6, skipped=1)
    failed = {line.split("::", 1)[1].split(" ")[0] for line in result.outlines if line.startswith("FAILED ")}
    assert failed == {
        "test_sick",
        "test_one_of_two",
        "TestClass::test_whole_class",
        "test_nothing_is_watched",
        "test_nothing_runs",
        "test_fails_by_itself",
    }
    result.stdout.fnmatch_lines_random(
        [
            "pagedkv_healthy: 1 finding in * steps",
            "  *CRITICAL fragmentation: *% of the memory in use holds no token, with blocks of 256 tokens",
            "    evidence: wasted_ratio 0.*, excess_ratio 0.*",
            "    1. block_size=16 (now 256): *",
            'If this is meant: @pytest.mark.pagedkv_healthy(ignore=("fragmentation",)), or other *',
            "pagedkv_healthy: 1 finding in engine 2 of 2, * steps",
            "pagedkv_healthy: no engine was watched, so that nothing is known of their health; *",
            "pagedkv_healthy: the engines that were watched ran no step, *",
            "E   *its own reason",
        ]
    )
    assert not [line for line in result.outlines if "in require_healthy" in line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "ignored=()",
            "pagedkv_healthy has unknown argument 'ignored'; it takes ignore, thresholds",
        ),
        ("('latency_spike',)", "pagedkv_healthy has positional arguments"),
        (
            "ignore='latency_spike'",
            "pagedkv_healthy: ignore is 'latency_spike'; it must be a tuple with some of",
        ),
        ("ignore=('fire',)", "pagedkv_healthy: ignore is ('fire',)*'cow_explosion'"),
        ("thresholds=0.4", "pagedkv_healthy: thresholds is 0.4; it must be a pagedkv.pitfalls.Thresholds"),
    ],
)
def test_wrong_arguments_are_a_usage_error(project: Project, arguments: str, message: str) -> None:
    """Before any test runs, and with the name of the test."""
    project.write(
        "test_it.py", f"import pytest\n@pytest.mark.pagedkv_healthy({arguments})\ndef test_it(): pass\n"
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    escaped = message.replace("[", "[[]")
    result.stderr.fnmatch_lines([f"ERROR: test_it.py::test_it: {escaped}*"])


def test_engines_of_ones_own_are_watched(project: Project, pytestconfig: pytest.Config) -> None:
    """Whatever runs their steps."""
    project.pytester.syspathinsert(pytestconfig.rootpath)
    project.write("test_own.py", OWN_ENGINE)

    result = project.run()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["pagedkv_healthy: 1 finding in * steps"])


def test_what_is_timed_is_not_watched(project: Project) -> None:
    """Of a benchmark's engines those are watched whose events are counted."""
    project.write("test_timed.py", TIMED)

    assert project.perf().ret == pytest.ExitCode.OK

    counters = project.benchmarks(".pagedkv-perf/run.json")["test_timed.py::test_timed"]["counters"]
    assert counters["watched"] == 1  # type: ignore[index]


def test_the_marker_knows_all_pitfalls() -> None:
    """Their names, which it cannot look up without importing numpy; thresholds are of each of them."""
    assert HealthyMark(ignore=tuple(each.value for each in Pitfall)).ignore
    assert {each.name for each in fields(Thresholds)} >= {each.value for each in Pitfall}

"""The fixtures that make engines on a virtual clock."""

import pytest

from tests.plugin.conftest import Project

ENGINES = """
import pytest
from pagedkv import CacheConfig
from pagedkv.errors import ConfigError
from pagedkv.sampling.params import SamplingParams

SHORT = SamplingParams(max_tokens=5, seed=1)

def tokens(outputs):
    return [list(each.outputs[0].token_ids) for each in outputs]

def test_served(pagedkv_engine, pagedkv_clock):
    assert pagedkv_clock.now_ns() == 0
    engine = pagedkv_engine(num_blocks=16, block_size=4, max_running=2, device="l4")
    outputs = engine.generate([[1, 2, 3], [4, 5], [6]], SHORT)
    assert [len(each) for each in tokens(outputs)] == [5, 5, 5]
    assert outputs[0].metrics.finished_s * 1e9 == pytest.approx(pagedkv_clock.now_ns(), abs=1e9)
    assert pagedkv_clock.now_ns() > 0
    assert engine.scheduler.config.max_running == 2
    again = pagedkv_engine(num_blocks=16, block_size=4, device="h100")
    assert tokens(again.generate([[1, 2, 3], [4, 5], [6]], SHORT)) == tokens(outputs)
    other = pagedkv_engine(seed=1)
    assert tokens(other.generate([[1, 2, 3], [4, 5], [6]], SHORT)) != tokens(outputs)

def test_left_alone(pagedkv_engine):
    engine = pagedkv_engine(num_blocks=16)
    engine.add_request([1] * 40)
    engine.step()
    assert engine.scheduler.cache.pool.num_free < 16

def test_settings(pagedkv_engine):
    with pytest.raises(TypeError, match="'num_pages' is no setting of an engine; there are device"):
        pagedkv_engine(num_pages=3)
    with pytest.raises(ConfigError, match="policy is 'best'"):
        pagedkv_engine(policy="best")

def test_leaky(pagedkv_engine):
    engine = pagedkv_engine(num_blocks=16)
    engine.scheduler.cache.admit(99, [1, 2, 3])

def test_damaged(pagedkv_engine):
    pagedkv_engine().scheduler.cache.check_integrity = lambda: 1 / 0
"""

BENCHMARK = """
import pytest
pytestmark = pytest.mark.pagedkv_perf

def test_counted(pagedkv_benchmark, pagedkv_engine, pagedkv_cache):
    def serve():
        engine = pagedkv_engine(num_blocks=32)
        engine.generate([range(10), range(20)])
        return engine

    engine = pagedkv_benchmark(serve, rounds=2)
    pagedkv_benchmark.record(finished=engine.stats().num_finished)
"""

OVERRIDDEN = """
import pytest
from pagedkv.clock import VirtualClock

@pytest.fixture
def pagedkv_clock():
    return VirtualClock(7_000)

@pytest.fixture
def pagedkv_engine(pagedkv_engine):
    return lambda **settings: pagedkv_engine(num_blocks=8, **settings)

def test_mine(pagedkv_engine, pagedkv_clock):
    engine = pagedkv_engine(block_size=2)
    assert engine.scheduler.cache.config.num_blocks == 8
    assert engine.scheduler.clock is pagedkv_clock
    assert pagedkv_clock.now_ns() == 7_000
"""


def test_engines_are_made_and_checked(project: Project) -> None:
    """They repeat, time passes on the clock, and at the end of the test no block may be missing."""
    project.write("test_engines.py", ENGINES)

    result = project.run()

    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines_random(
        ["*InvariantError: 1 of 16 blocks did not come home*", "*ZeroDivision*"]
    )


def test_an_engine_is_counted(project: Project) -> None:
    """The events of its cache are those of a benchmark; engines that are only timed are not kept."""
    project.write("test_counting.py", BENCHMARK)

    assert project.perf().ret == pytest.ExitCode.OK

    counters = project.benchmarks(".pagedkv-perf/run.json")["test_counting.py::test_counted"]["counters"]
    assert (counters["finished"], counters["sequences_admitted"]) == (2, 2)
    assert counters["tokens_admitted"] == 30


def test_the_fixtures_can_be_overridden(project: Project) -> None:
    """A test file has its own, made from ours."""
    project.write("test_mine.py", OVERRIDDEN)

    project.run().assert_outcomes(passed=1)

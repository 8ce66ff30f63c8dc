"""The fixtures, as tests use them."""

import gc
import time

import pytest

from pytest_pagedkv.perf.benchmark import Benchmark
from pytest_pagedkv.perf.meter import measure
from pytest_pagedkv.perf.meters import Call, quiet_gc
from pytest_pagedkv.perf.recorder import Recorder
from tests.plugin.conftest import Project

CACHES = """
import pytest
pytestmark = pytest.mark.pagedkv_perf(group="caches")

def test_counted(pagedkv_benchmark, pagedkv_cache):
    early = pagedkv_cache(num_blocks=64, block_size=4)
    early.admit(1, range(9))

    def setup():
        cache = pagedkv_cache(num_blocks=64, block_size=4)
        cache.admit(1, range(9))
        return early, cache

    def fn(early, cache):
        late = pagedkv_cache(num_blocks=64, block_size=4)
        for each in (cache, late):
            each.admit(2, range(100, 109))
        return late

    late = pagedkv_benchmark(fn, setup=setup, rounds=3)
    late.admit(3, range(9))
    assert late.events.emit is None
    pagedkv_benchmark.record(rows=7)

def test_damaged(pagedkv_benchmark, pagedkv_cache):
    cache = pagedkv_cache(num_blocks=64)
    cache.check_integrity = lambda: 1 / 0
"""

TRACES = """
import pytest

def test_there(pagedkv_trace):
    trace = pagedkv_trace("mini")
    assert [request.num_prompt_tokens for request in trace.requests] == [7]
    assert pagedkv_trace("mini") is trace
    assert pagedkv_trace("mini", block_ids=False) is not trace

def test_absent(pagedkv_trace):
    pagedkv_trace("no_such")

def test_generated(pagedkv_trace, pagedkv_seed):
    assert pagedkv_seed == 3
    trace = pagedkv_trace("generated:chat", num_requests=5)
    assert trace == pagedkv_trace("generated:chat", num_requests=5, seed=3)
    assert trace != pagedkv_trace("generated:chat", num_requests=5, seed=4)
"""


def test_exactly_one_call_is_counted(project: Project) -> None:
    """Caches made before, in setup and in the call count during it only; each is checked at the end."""
    project.write("test_caches.py", CACHES)

    result = project.perf()

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*", " 1 new, 1 failed otherwise"])
    counters = project.benchmarks(".pagedkv-perf/run.json")["test_caches.py::test_counted"]["counters"]
    assert counters["rows"] == 7
    assert (counters["sequences_admitted"], counters["tokens_admitted"]) == (2, 18)


def test_traces_are_found_generated_or_skipped(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the folder, or else the ini file; one that is absent skips its test."""
    project.write("test_traces.py", TRACES)
    row = '{"timestamp": 0, "input_length": 7, "output_length": 1, "hash_ids": [1]}\n'
    project.write("folder/mini.jsonl", row)

    nowhere = project.run("-rs", "--pagedkv-seed=3")
    ini = project.run("-rs", "-o", "pagedkv_traces=folder", "-o", "pagedkv_seed=3")
    monkeypatch.setenv("PAGEDKV_TRACES", "folder")  # relative to where pytest is started, not to its root
    environment = project.run("-o", "pagedkv_traces=nowhere", "--pagedkv-seed=3", "--rootdir=folder")

    nowhere.assert_outcomes(passed=1, skipped=2)
    nowhere.stdout.fnmatch_lines(["SKIPPED * trace mini: no folder of traces is named; set PAGEDKV_TRACES"])
    ini.assert_outcomes(passed=2, skipped=1)
    ini.stdout.fnmatch_lines(["SKIPPED * trace no_such: not in *folder (as .jsonl.gz, *)"])
    environment.assert_outcomes(passed=2, skipped=1)


def test_the_result_is_that_of_the_counted_call() -> None:
    """Setup makes the arguments: a tuple is spread, None is none, anything else is the only one."""

    def called(setup: object) -> object:
        return Benchmark(Recorder(), None)(lambda *args: args, setup=setup)

    assert called(None) == ()
    assert called(lambda: None) == ()
    assert called(lambda: (1, 2)) == (1, 2)
    assert called(lambda: [1, 2]) == ([1, 2],)


def test_a_benchmark_is_called_once() -> None:
    """A second call in one test is refused: its counters would be mixed."""
    benchmark = Benchmark(Recorder(), None)
    benchmark(int)

    with pytest.raises(RuntimeError, match="one test per benchmark"):
        benchmark(int)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_only_integers_are_recorded(value: object) -> None:
    """A bool or a float is refused with its type, and nothing of that call is kept."""
    recorder = Recorder()

    with pytest.raises(TypeError, match=f"counter 'n' is .*, a {type(value).__name__}; counters are exact"):
        recorder.record({"fine": 1, "n": value})

    assert recorder.counters == {}


def test_a_name_is_recorded_once() -> None:
    """A name that is taken is refused with the value it has; names come out sorted."""
    recorder = Recorder()
    recorder.record({"b": 1})
    recorder.record({"a": 2})

    with pytest.raises(ValueError, match=r"counter 'b' is there already \(1\)"):
        recorder.record({"b": 1})

    assert list(recorder.counters.items()) == [("a", 2), ("b", 1)]


def test_the_collector_rests_and_comes_back() -> None:
    """Inside nothing is collected; afterwards all is as it was, also after an error."""
    with quiet_gc():
        assert (gc.isenabled(), gc.get_freeze_count() > 0) == (False, True)
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)

    with pytest.raises(ValueError, match="stop"), quiet_gc():
        raise ValueError("stop")
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)

    gc.disable()
    gc.freeze()
    try:
        with quiet_gc():
            pass
        assert (gc.isenabled(), gc.get_freeze_count() > 0) == (False, True)
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("metric", ["cpu", "wall"])
def test_a_timing_has_a_sample_per_round(metric: str) -> None:
    """Every call gets fresh arguments, every round its sample, batches with arguments stay small."""
    made: list[int] = []
    used: list[int] = []

    def prepare() -> tuple[int]:
        made.append(len(made))
        return (made[-1],)

    timing = measure(Call(fn=used.append, prepare=prepare), metric=metric, rounds=4, warmup=2)

    assert (timing.metric, len(timing.samples_ns)) == (metric, 4)
    assert 0 <= timing.best_ns <= timing.median_ns
    assert timing.num_calls <= 256
    assert used == made
    assert len(measure(Call(fn=int), metric=metric).samples_ns) >= 3


def test_the_last_calibrating_batch_is_the_first_round() -> None:
    """A function that takes long is called once for a round, and not before."""
    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    timing = measure(Call(fn=slow), metric="wall", rounds=1, warmup=0)

    assert (len(calls), len(timing.samples_ns), timing.num_calls) == (1, 1, 1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"rounds": 0}, "rounds is 0; give 1"), ({"rounds": -1}, "rounds is -1"), ({"warmup": -1}, "warmup is")],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, int], message: str) -> None:
    """Fewer than one round or than zero warm-up calls is an error with the number, before anything runs."""
    with pytest.raises(ValueError, match=message):
        Benchmark(Recorder(), None)(pytest.fail, **numbers)

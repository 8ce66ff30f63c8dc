"""What a recorder remembers of a run, beside what was counted over all of it."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import SamplingParams
from pagedkv.clock import VirtualClock
from pagedkv.pitfalls import Pitfall, Thresholds, detect, timeline
from pagedkv.recording import RunRecord, RunRecorder, read_run
from pagedkv.recording.bins import StepBins
from pagedkv.recording.histogram import Histogram
from pagedkv.scenarios import SCENARIOS
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.stats import COLUMNS, StatsWindow
from pytest_pagedkv.perf.engines import simulated_engine
from tests.recording.runs import CACHE, busy, kind, recorded


@pytest.fixture(scope="module")
def run() -> tuple[RunRecord, SimulationResult]:
    """A run in which blocks are short, recorded."""
    recorder, result = recorded(busy())
    return recorder.record(), result


def test_sums_are_those_of_the_run(run: tuple[RunRecord, SimulationResult]) -> None:
    """However steps are binned, each is in one bin."""
    record, result = run
    assert record.num_steps == record.num_examined == result.steps
    assert record.steps.total("batch_size") == result.batch_size_sum
    assert record.steps.total("duration_ns") == result.busy_ns
    assert record.steps.total("num_preempted") == result.preemptions > 0
    assert max(record.steps.maxima["batch_size"]) == result.batch_size_max
    assert record.stop_ns == result.makespan_ns
    assert record.steps.coarser(7).total("num_copies") == record.steps.total("num_copies") > 0
    assert len(record.steps.coarser(7)) <= 7


def test_percentiles_are_those_of_the_run(run: tuple[RunRecord, SimulationResult]) -> None:
    """To 0.4%, and every value is counted."""
    record, result = run
    first, between = record.distributions["ttft_ns"], record.distributions["inter_token_ns"]
    num_sequences = sum(each.num_samples for each in busy().requests)
    assert first.count == result.requests
    assert between.count == record.steps.total("num_sampled") - num_sequences
    for percent in (50, 90, 99):
        assert first.percentile(percent) == pytest.approx(getattr(result, f"ttft_p{percent}_ns"), rel=0.004)
        exact = getattr(result, f"inter_token_p{percent}_ns")
        assert between.percentile(percent) == pytest.approx(exact, rel=0.004)
    assert record.distributions["step_ns"].total == result.busy_ns


def test_looks_add_up(run: tuple[RunRecord, SimulationResult]) -> None:
    """Blocks by state and by reference count are the same blocks, and the map shows them."""
    looks = run[0].looks
    columns, by_count = looks.columns, looks.ref_counts
    assert columns["now_ns"] == sorted(columns["now_ns"])
    assert max(columns["num_shared"]) > 0
    for place, cells in enumerate(looks.cells):
        counts = [by_count[name][place] for name in by_count]
        assert sum(counts) == columns["num_in_use"][place]
        assert sum(counts[1:]) == columns["num_shared"][place]
        assert len(cells) == CACHE.num_blocks  # each cell is a block
        assert cells.count("s") == columns["num_shared"][place]
        assert cells.count("u") + cells.count("s") == columns["num_in_use"][place]
        assert cells.count("c") == columns["num_cached"][place]


def test_a_look_shows_that_nothing_is_left(run: tuple[RunRecord, SimulationResult]) -> None:
    """Where all requests have ended, the next ones may be long in coming: no block is in use until then."""
    looks = run[0].looks
    empty = [at for at, used in enumerate(looks.columns["num_in_use"]) if not used]
    assert len(empty) >= 2
    assert looks.columns["now_ns"][empty[-1]] == run[0].stop_ns


def test_findings_are_those_of_all_steps() -> None:
    """As a whole and over time, with the steps and times of the run."""
    setup = SCENARIOS[Pitfall.FRAGMENTATION].sick["severe"]
    recorder, _ = recorded(setup.trace(0), setup.cache, scheduler=setup.scheduler, **setup.how)
    record, window = recorder.record(), recorder.window()
    assert record.findings == detect(window)
    assert [each.pitfall for each in record.findings] == [Pitfall.FRAGMENTATION]
    assert [(each.start_step, each.stop_step, each.finding) for each in record.timeline] == [
        tuple(each) for each in timeline(window)
    ]
    (episode, *_) = record.timeline
    assert (episode.start_ns, episode.stop_ns) == (record.start_ns, record.stop_ns)


def test_thresholds_are_the_callers() -> None:
    """What is found depends on them."""
    setup = SCENARIOS[Pitfall.FRAGMENTATION].sick["severe"]
    lenient = Thresholds(fragmentation=replace(Thresholds().fragmentation, excess_ratio=0.99))
    recorder, _ = recorded(
        setup.trace(0), setup.cache, scheduler=setup.scheduler, thresholds=lenient, **setup.how
    )
    assert recorder.record().findings == []


def test_pages_are_seen() -> None:
    """With tiers below the device, how much was moved, and how much is kept there."""
    looks = kind("offload_thrash").looks
    for route, moved in looks.moved_bytes.items():
        assert list(moved) == sorted(moved), route
        assert moved[-1] > 0, route
    assert max(looks.columns["num_host_pages"]) > 0
    assert max(looks.columns["num_file_pages"]) > 0
    assert kind("healthy").looks.moved_bytes == {}


def test_a_recorded_run_is_as_one_that_is_not() -> None:
    """Looking changes nothing."""
    assert recorded(busy(1))[1] == simulate(busy(1), cache=CACHE)


def test_memory_is_bounded() -> None:
    """Long runs have no more looks and bins than short ones, and the looks are spread over their time."""
    record = recorded(busy(num_requests=300))[0].record()
    assert record.num_steps > 2 * 1024
    assert len(record.steps) <= 1024
    assert 40 <= len(record.looks) <= 192
    begins = np.array([*record.looks.columns["now_ns"], record.stop_ns])
    widest = np.diff(begins).max() / (record.stop_ns - record.start_ns)
    assert widest < 0.1


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 900), max_size=12), seed=st.integers(0, 9))
def test_bins_hold_every_step_once(lengths: list[int], seed: int) -> None:
    """In whatever pieces steps come: sums and maxima are those of all, and bins follow each other."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1000, (len(COLUMNS), sum(lengths)))
    bins, start = StepBins(), 0
    for length in lengths:
        part = dict(zip(COLUMNS, values[:, start : start + length], strict=True))
        bins.add(StatsWindow(cache=CACHE, columns=part))
        start += length
    found = bins.as_binned()
    assert sum(found.num_steps) == sum(lengths)
    assert len(found) <= 1024
    edges = np.cumsum([0, *found.num_steps])
    for row, name in zip(values, COLUMNS, strict=True):
        pieces = [row[low:high] for low, high in pairwise(edges)]
        assert list(found.sums[name]) == [int(each.sum()) for each in pieces]
        assert list(found.maxima[name]) == [int(each.max()) for each in pieces]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 2**52), min_size=1, max_size=200), percent=st.integers(1, 100))
def test_histograms_are_near(values: list[int], percent: int) -> None:
    """Counts are exact, and percentiles by nearest rank are within 0.4%, whatever is counted."""
    histogram = Histogram()
    for value in values:
        histogram.add(np.array([value]))
    found = histogram.as_distribution()
    assert (found.count, found.total) == (len(values), sum(values))
    assert (found.lowest, found.highest) == (min(values), max(values))
    exact = sorted(values)[-(-percent * len(values) // 100) - 1]
    assert found.percentile(percent) == pytest.approx(exact, rel=0.004, abs=0.5)


def test_an_engine_records_a_block_of_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What happens before and after it is not recorded; after an error, what happened until then is."""
    path = tmp_path_factory.mktemp("run") / "RUN.json"
    engine = simulated_engine(VirtualClock(), {"num_blocks": 64})
    params = SamplingParams(max_tokens=5, seed=1)
    engine.generate([[1, 2, 3]], params)
    with suppress(KeyboardInterrupt), engine.record(path, model="none") as recorder:
        engine.generate([[1, 2, 3], [4, 5]], params)
        raise KeyboardInterrupt
    engine.generate([[1, 2, 3]], params)
    record = read_run(path)
    assert record == recorder.record()
    assert (record.num_steps, record.about) == (5, {"model": "none"})
    assert record.distributions["ttft_ns"].count == 2
    engine.close()


def test_a_recorder_that_joins_late_sees_the_rest() -> None:
    """By hand, on a scheduler that has run already."""
    engine = simulated_engine(VirtualClock(), {"num_blocks": 64})
    engine.add_request([1, 2, 3], SamplingParams(max_tokens=5, seed=1))
    engine.step()
    recorder = RunRecorder(engine.scheduler)
    engine.scheduler.events.attach(recorder)
    engine.generate([[5]], SamplingParams(max_tokens=9, seed=1))
    record = recorder.record()
    assert record.num_steps == 9
    assert record.steps.total("num_sampled") == 4 + 9
    engine.close()


def test_settings_are_those_of_the_run() -> None:
    """Those of the tiers below the device too, without being told."""
    assert kind("offload_thrash").settings["offload"] is not None
    assert kind("offload_thrash").settings["offload"]["io_threads"] == 1
    assert kind("healthy").settings["offload"] is None

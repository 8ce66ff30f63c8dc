"""An executor without a model."""

import numpy as np
import pytest

from pagedkv.clock import VirtualClock
from pagedkv.errors import ConfigError
from pagedkv.events import EventStream
from pagedkv.sampling.params import SamplingParams
from pagedkv.simulate import CostModel, SimulatedExecutor
from pagedkv.simulate.compiling import COMPILE_NS
from tests.simulate.steps import sequence, step

COST = CostModel("h100", "tiny", block_size=16)


def test_time_passes() -> None:
    """The clock moves by the cost of each step, and by nothing else."""
    clock = VirtualClock(7)
    executor = SimulatedExecutor(clock, COST)
    one, other = step([3, 4]), step([4], [(0, 5, True)])

    executor.execute(one)
    executor.execute(other)

    assert clock.now_ns() == 7 + COST.step_ns(one) + COST.step_ns(other)


def test_tokens_do_not_depend_on_what_runs_beside() -> None:
    """A sequence's token at a position is the same in another batch, and when it is computed again."""
    ours, others = sequence(3), [sequence(4), sequence(5)]
    together = SimulatedExecutor(VirtualClock(), COST)
    both = together.execute(step([20, 11, 30], decoding=[others[0], ours, others[1]])).token_ids
    again = together.execute(step([], [(0, 12, True)], prefilling=[ours])).token_ids
    alone = SimulatedExecutor(VirtualClock(), COST).execute(step([11], decoding=[ours])).token_ids

    assert both[1] == alone[0] == again[0]
    assert len(set(both.tolist())) == 3
    assert alone.dtype == np.int32


def test_a_batch_that_changes_is_noticed() -> None:
    """Keys of the decode batch are kept only while its members are the same."""
    executor = SimulatedExecutor(VirtualClock(), COST)

    first = executor.execute(step([11], decoding=[sequence(1)], changes=1)).token_ids
    second = executor.execute(step([11], decoding=[sequence(2)], changes=2)).token_ids

    assert first[0] != second[0]


def test_tokens_are_those_that_they_always_were() -> None:
    """Golden tokens: no machine, no Python and no numpy changes them."""
    executor = SimulatedExecutor(VirtualClock(), COST, seed=1)

    found = executor.execute(step([3, 3, 4], decoding=[sequence(0), sequence(1), sequence(0, index=1)]))

    assert found.token_ids.tolist() == [46, 280, 360]


def test_seeds_differ() -> None:
    """Another seed gives other tokens."""
    tokens = [
        SimulatedExecutor(VirtualClock(), COST, seed=seed).execute(step(range(50))).token_ids
        for seed in (0, 1)
    ]

    assert (tokens[0] != tokens[1]).any()
    assert (np.concatenate(tokens) < COST.model.vocab_size).all()


def test_samples_branch_behind_the_prompt() -> None:
    """Several samples begin with a token each; afterwards each has one token a step."""
    new = sequence(1, sampling=SamplingParams(n=3))
    executor = SimulatedExecutor(VirtualClock(), COST)

    found = executor.execute(step([7], [(0, 10, True)], prefilling=[new]))

    assert {at: len(set(tokens)) for at, tokens in found.branches.items()} == {1: 3}
    assert not found.candidates


def test_beams_get_candidates() -> None:
    """A beam has twice as many candidates as the search has beams: distinct tokens, the likeliest first."""
    beam = sequence(1, sampling=SamplingParams(beam_width=4))
    executor = SimulatedExecutor(VirtualClock(), COST)

    found = executor.execute(step([3, 12], decoding=[sequence(0), beam]))

    assert list(found.candidates) == [1]
    candidates = found.candidates[1]
    assert len({token for token, _ in candidates}) == len(candidates) == 8
    values = [value for _, value in candidates]
    assert values == sorted(values, reverse=True)
    assert values[0] < 0
    assert not found.branches


def test_a_peak_sets_candidates_apart() -> None:
    """The gaps behind the first candidate grow with the peak, exactly."""
    beam = sequence(1, sampling=SamplingParams(beam_width=2))
    low, high = (
        [
            value
            for _, value in SimulatedExecutor(VirtualClock(), COST, peak=peak)
            .execute(step([12], decoding=[beam]))
            .candidates[0]
        ]
        for peak in (0.5, 2.0)
    )

    assert low[0] == high[0]
    assert [4 * (value - low[0]) for value in low] == [value - high[0] for value in high]


@pytest.mark.parametrize(
    "settings", [{"seed": -1}, {"seed": 2**64}, {"seed": 1.5}, {"peak": 0.0}, {"peak": float("nan")}]
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SimulatedExecutor(VirtualClock(), COST, **settings)


def test_a_kernel_is_compiled_by_the_step_that_meets_it_first() -> None:
    """Writing KV and a decode, then nothing, then a prompt's attention, then copies; with warm-up, never."""
    clock, told = VirtualClock(), []
    events = EventStream()
    events.attach(told.append)
    cold = SimulatedExecutor(clock, COST, warm_up=False, events=events)
    warm_clock = VirtualClock()
    warm = SimulatedExecutor(warm_clock, COST)
    steps = [step([11]), step([12, 3]), step([13], [(0, 5, True)]), step([14], copies=1), step([15])]
    for each in steps:
        cold.execute(each)
        warm.execute(each)
    assert [(event.num_kernels, event.duration_ns) for event in told] == [
        (2, 2 * COMPILE_NS),
        (1, COMPILE_NS),
        (1, COMPILE_NS),
    ]
    assert clock.now_ns() - warm_clock.now_ns() == 4 * COMPILE_NS


def test_a_step_begins_when_what_it_waits_for_is_there() -> None:
    """Whoever wants steps to wait is asked first."""
    clock = VirtualClock()
    executor = SimulatedExecutor(clock, COST, begin_step=lambda: clock.advance(7))
    executor.execute(step([11]))
    assert clock.now_ns() == 7 + COST.step_ns(step([11]))

"""What samples and beams share, by the blocks that the cache really holds.

The bands are those of figure 15 in "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023, for blocks of 16 tokens.
"""

from dataclasses import replace

import pytest

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.traces import Trace, generate

B = 16
ROOMY = CacheConfig(num_blocks=200_000, block_size=B, prefix_caching=False)
WHOLE = SchedulerConfig(max_batch_tokens=1_000_000, max_running=100_000)
"""Every prompt is computed in one step, and nobody waits."""


def run(trace: Trace, peak: float = 32.0) -> SimulationResult:
    """All requests, with room for everything."""
    return simulate(trace, cache=ROOMY, scheduler=WHOLE, peak=peak)


def closed_form(trace: Trace) -> tuple[int, int, int]:
    """Blocks held, those that would be held without sharing, both summed over steps, and copies."""
    held = apart = copies = 0
    for request in trace.requests:
        prompt, n = request.num_prompt_tokens, request.num_samples
        held += -(-prompt // B)
        apart += -(-prompt // B)
        for length in range(prompt + 1, prompt + request.num_output_tokens):
            blocks = -(-length // B)
            held += prompt // B + n * (blocks - prompt // B)
            apart += n * blocks
        copies += n - 1 if prompt % B and request.num_output_tokens > 1 else 0
    return held, apart, copies


@pytest.mark.parametrize("preset", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("num_samples", [1, 2, 4, 6])
def test_samples_meet_the_closed_form(preset: str, num_samples: int) -> None:
    """Samples share the prompt's full blocks, and nothing else, from their first own token on."""
    trace = generate(preset, num_requests=40, seed=3, num_samples=num_samples)

    found = run(trace)

    assert (found.block_steps, found.unshared_block_steps, found.cow_copies) == closed_form(trace)
    assert found.preemptions == 0


@pytest.mark.parametrize(
    ("preset", "num_requests", "num_samples", "seed", "band"),
    [
        ("alpaca", 400, 2, 0, (0.061, 0.098)),
        pytest.param("alpaca", 400, 4, 0, (0.061, 0.098), marks=pytest.mark.heavy),
        ("alpaca", 400, 6, 5, (0.061, 0.098)),
        ("sharegpt", 100, 2, 0, (0.162, 0.305)),
        pytest.param("sharegpt", 100, 4, 0, (0.162, 0.305), marks=pytest.mark.heavy),
        ("sharegpt", 100, 6, 0, (0.162, 0.305)),
    ],
)
def test_samples_save_what_the_paper_says(
    preset: str, num_requests: int, num_samples: int, seed: int, band: tuple[float, float]
) -> None:
    """Savings of parallel sampling lie in the paper's band.

    On the same requests 2 and 6 samples save as 3 to 5, whatever the lengths. Alpaca's 6.1% and 9.8% do not,
    so they are of different requests, and so are ours.
    """
    found = run(generate(preset, num_requests=num_requests, seed=seed, num_samples=num_samples))

    low, high = band
    assert low <= found.ratios()["sharing_saving"] <= high


@pytest.mark.parametrize(
    ("preset", "num_requests", "beam_width", "peak", "band"),
    [
        ("alpaca", 100, 2, 4.0, (0.376, 0.552)),
        pytest.param("alpaca", 100, 4, 16.0, (0.376, 0.552), marks=pytest.mark.heavy),
        ("alpaca", 100, 6, 64.0, (0.376, 0.552)),
        ("sharegpt", 12, 2, 32.0, (0.443, 0.663)),
        pytest.param("sharegpt", 12, 4, 80.0, (0.443, 0.663), marks=pytest.mark.heavy),
        ("sharegpt", 12, 6, 350.0, (0.443, 0.663)),
    ],
)
def test_beams_save_what_the_paper_says(
    preset: str, num_requests: int, beam_width: int, peak: float, band: tuple[float, float]
) -> None:
    """Savings of beam search lie in the paper's band, with a peak for each: nobody knows the model's."""
    found = run(generate(preset, num_requests=num_requests, seed=0, beam_width=beam_width), peak)

    low, high = band
    assert low <= found.ratios()["sharing_saving"] <= high


def test_beams_share_less_when_each_goes_on_by_itself() -> None:
    """The higher the peak, the less is shared; never less than samples share, the prompt."""
    savings = [
        run(generate("alpaca", num_requests=30, seed=0, beam_width=4), peak).ratios()["sharing_saving"]
        for peak in (1.0, 30.0, 1000.0)
    ]
    samples = run(generate("alpaca", num_requests=30, seed=0, num_samples=4)).ratios()["sharing_saving"]

    assert 0.75 > savings[0] > savings[1] > savings[2] > samples > 0


@pytest.mark.parametrize("kind", ["num_samples", "beam_width"])
def test_forks_of_full_blocks_compute_the_rest_again(kind: str) -> None:
    """Nothing is copied; samples compute what lies behind the last full block of the prompt once each."""
    trace = generate("alpaca", num_requests=20, seed=0, **{kind: 3})
    cache = CacheConfig(num_blocks=200_000, block_size=B, prefix_caching=False, fork_mode="full_blocks")

    found = simulate(trace, cache=cache, scheduler=WHOLE)
    lazy = simulate(trace, cache=replace(cache, fork_mode="lazy"), scheduler=WHOLE)

    again = sum(2 * (each.num_prompt_tokens % B) for each in trace.requests if each.num_output_tokens > 1)
    assert (found.cow_copies, lazy.recomputed_tokens) == (0, 0)
    assert found.generated_tokens == lazy.generated_tokens
    assert found.recomputed_tokens == again if kind == "num_samples" else found.recomputed_tokens > again


def test_eager_forks_copy_at_the_fork() -> None:
    """As many blocks are held, one step earlier, and as many copies are made but for the last writer's."""
    trace = generate("alpaca", num_requests=20, seed=0, num_samples=3)
    eager = CacheConfig(num_blocks=200_000, block_size=B, prefix_caching=False, fork_mode="eager")

    found = simulate(trace, cache=eager, scheduler=WHOLE)

    assert (found.block_steps, found.unshared_block_steps) == closed_form(trace)[:2]
    assert found.cow_copies >= closed_form(trace)[2]

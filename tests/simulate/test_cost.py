"""What a step costs."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.simulate import DEVICES, MODELS, CostModel, StepWork
from tests.simulate.steps import step

pairs = st.tuples(st.sampled_from(sorted(DEVICES)), st.sampled_from(sorted(MODELS)))
counts = st.integers(0, 10**6)
works = st.builds(StepWork, counts, counts, counts, counts, st.integers(0, 1000))
FIELDS = ("num_tokens", "num_sampled", "num_kv_tokens", "num_scores", "num_copies")


@pytest.mark.parametrize(
    ("name", "num_parameters", "kv_bytes"),
    [
        ("llama-3.2-1b", 1_235_814_400, 32_768),
        ("llama-3.2-3b", 3_212_749_824, 114_688),
        ("llama-3-8b", 8_030_261_248, 131_072),
        ("llama-3-70b", 70_553_706_496, 327_680),
    ],
)
def test_shapes_have_the_published_sizes(name: str, num_parameters: int, kv_bytes: int) -> None:
    """A preset has as many parameters as the checkpoint that it is named after."""
    assert (MODELS[name].num_parameters, MODELS[name].kv_bytes_per_token) == (num_parameters, kv_bytes)


def test_work_is_counted() -> None:
    """Decodes at positions 4 and 9 see 5 and 10 tokens; tokens 2..4 of a chunk see 3, 4 and 5."""
    found = StepWork.of(step([4, 9], [(2, 5, True), (0, 4, False)], copies=3))

    assert found == StepWork(
        num_tokens=2 + 3 + 4,
        num_sampled=2 + 1,
        num_kv_tokens=5 + 10 + 5 + 4,
        num_scores=5 + 10 + (3 + 4 + 5) + (1 + 2 + 3 + 4),
        num_copies=3,
    )


def test_a_decode_step_by_hand() -> None:
    """64 sequences of 1000 tokens on an h200 with an 8B model: weights, then KV, at 80% of 4.8 TB/s."""
    found = CostModel("h200", "llama-3-8b", block_size=16).step_ns(step([999] * 64))

    rate = 4_800 * 10**9 * 80 // 100
    weights = (32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14_336) + 128_256 * 4096) * 2
    kv = (64 * 1000 + 64) * 131_072
    expected = (
        ceil(Fraction(weights * 10**9, rate)) + ceil(Fraction(kv * 10**9, rate)) + 200_000 + 32 * 8 * 1000
    )
    assert found == expected == 6_551_395


def test_a_prefill_step_by_hand() -> None:
    """A prompt of 8192 tokens is bound by the operations, at 65% of 989 TFLOP/s."""
    found = CostModel("h100", "llama-3-8b", block_size=16).step_ns(step([], [(0, 8192, True)]))

    rate = 989 * 10**12 * 65 // 100
    layers = 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14_336)
    matrices = 2 * (8192 * layers + 128_256 * 4096)
    attention = 4 * 32 * 32 * 128 * (8192 * 8193 // 2)
    expected = ceil(Fraction(matrices * 10**9, rate)) + ceil(Fraction(attention * 10**9, rate))
    assert found == expected + 200_000 + 32 * 8 * 1000


def test_the_output_matrix_is_read_only_for_a_token() -> None:
    """A piece of a prompt before its end takes less, by the time of the matrix that makes logits."""
    cost = CostModel("h200", "llama-3-8b", block_size=16)
    within, last = (cost.step_ns(step([], [(0, 64, samples)])) for samples in (False, True))

    layers = 32 * (2 * 4096 * 128 * (32 + 8) + 3 * 4096 * 14_336) * 2
    rate = 4_800 * 10**9 * 80 // 100
    ends = [ceil(Fraction(size * 10**9, rate)) for size in (layers, layers + 128_256 * 4096 * 2)]
    assert last - within == ends[1] - ends[0] == 273_613


def test_a_copy_is_read_and_written() -> None:
    """Copying blocks takes their bytes twice at the memory's rate."""
    cost = CostModel("l4", "llama-3.2-1b", block_size=16)
    rate = 300 * 10**9 * 80 // 100

    extra = cost.step_ns(step([9], copies=5)) - cost.step_ns(step([9]))
    assert extra == ceil(Fraction(2 * 5 * 16 * 32_768 * 10**9, rate))


def test_an_empty_step_takes_no_time() -> None:
    """Nothing is launched for it."""
    assert CostModel("h100", "tiny", block_size=16).step_ns(step()) == 0


@given(pairs, works, st.sampled_from(FIELDS), st.integers(1, 10**5))
def test_more_work_never_takes_less_time(
    pair: tuple[str, str], work: StepWork, field: str, more: int
) -> None:
    """The cost is monotone in everything that is counted, and never negative."""
    cost = CostModel(*pair, block_size=16)

    longer = replace(work, **{field: getattr(work, field) + more})
    assert 0 < cost.work_ns(work) <= cost.work_ns(longer)


@given(works, st.sampled_from(["a100", "h100", "h200", "l4", "cpu"]))
def test_costs_are_exact_integers(work: StepWork, device: str) -> None:
    """No part is a float, whatever the amounts, so nothing is rounded by the machine."""
    assert type(CostModel(device, "llama-3-8b", block_size=512).work_ns(work)) is int


@given(works)
def test_better_devices_are_not_slower(work: StepWork) -> None:
    """What has as much of everything, or more, takes no longer."""
    times = [
        CostModel(name, "llama-3.2-1b", block_size=16).work_ns(work) for name in ("a100", "h100", "h200")
    ]

    assert times == sorted(times, reverse=True)


def test_devices_share_the_work_and_exchange_sums() -> None:
    """Eight devices read an eighth each, and add up hidden states twice a layer, at 80% of 450 GB/s."""
    work = StepWork(64, 64, 64_000, 64_000, 0)
    one, eight = (CostModel("h100", "llama-3-8b", block_size=16, num_devices=n).work_ns(work) for n in (1, 8))

    overhead = 200_000 + 32 * 8 * 1000
    sums = 32 * 2 * (ceil(Fraction(2 * 7 * 64 * 4096 * 2 * 10**9, 8 * 360 * 10**9)) + 10_000)
    assert abs(eight - (overhead + sums + (one - overhead) // 8)) <= 2


def test_blocks_that_fit() -> None:
    """Behind 16 GB of weights, 90% of 80 GB hold 26 674 blocks of 2 MiB."""
    weights = 8_030_261_248 * 2
    found = CostModel("h100", "llama-3-8b", block_size=16).num_blocks_fitting()

    assert found == (72 * 10**9 - weights) // (16 * 131_072) == 26_674


@pytest.mark.parametrize(
    ("device", "model", "num_devices", "message"),
    [
        ("tpu", "tiny", 1, "device profile 'tpu' is unknown; there are a100, h100, h200, l4, cpu"),
        ("h100", "huge", 1, "model shape 'huge' is unknown"),
        (
            "h100",
            "llama-3-8b",
            3,
            "among 3 devices: num_heads is 32, num_kv_heads is 8, intermediate_size is 14336; choose",
        ),
        ("h100", "llama-3.2-3b", 16, "among 16 devices: num_heads is 24, num_kv_heads is 8; choose"),
        ("h100", replace(MODELS["tiny"], num_heads=5), 2, "among 2 devices: num_heads is 5; choose"),
        ("h100", replace(MODELS["tiny"], num_kv_heads=1), 2, "among 2 devices: num_kv_heads is 1; choose"),
        (
            "h100",
            replace(MODELS["tiny"], intermediate_size=127),
            2,
            "among 2 devices: intermediate_size is 127; choose",
        ),
        ("h100", "llama-3-8b", 0, "num_devices is 0"),
        ("cpu", "llama-3-8b", 2, "cpu has no link to a second device"),
        ("a100", replace(MODELS["tiny"], dtype="fp8"), 1, "a100 has no fp8 matrix products, only fp32, bf16"),
    ],
)
def test_impossible_combinations_are_refused(device: str, model: str, num_devices: int, message: str) -> None:
    """The message says what there is."""
    with pytest.raises(ConfigError, match=message):
        CostModel(device, model, block_size=16, num_devices=num_devices)


@pytest.mark.parametrize("block_size", [0, -16, 16.0, True])
def test_impossible_block_sizes_are_refused(block_size: int) -> None:
    """No number of such blocks fits anything."""
    with pytest.raises(ConfigError, match=f"block_size is {block_size!r}; it must be an int of at least 1"):
        CostModel("h100", "tiny", block_size=block_size)


def test_a_model_that_does_not_fit() -> None:
    """Weights beyond the memory are refused with both numbers; more devices help."""
    with pytest.raises(ConfigError, match="141107412992 bytes of weights, and 90% of 1 x h100"):
        CostModel("h100", "llama-3-70b", block_size=16).num_blocks_fitting()

    assert CostModel("h100", "llama-3-70b", block_size=16, num_devices=8).num_blocks_fitting() == (
        576 * 10**9 - 141_107_412_992
    ) // (16 * 327_680)

"""Latency spikes: what is one, what is not, and what is said of it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import OffloadConfig
from pagedkv.errors import ConfigError
from pagedkv.pitfalls import Finding, Pitfall, Severity
from pagedkv.pitfalls.latency_spike import LatencySpikeThresholds, detect_latency_spike
from pagedkv.stats import StatsWindow
from tests.pitfalls.windows import MS, decode_steps, window_of

ALL = np.arange(400)


def found(window: StatsWindow, **thresholds: float) -> Finding | None:
    """What is found."""
    return detect_latency_spike(window, LatencySpikeThresholds(**thresholds))


def every(number: int, value: int, otherwise: int = 0) -> "np.ndarray[Any, Any]":
    """A column that has a value in every so-manieth step."""
    return np.where(number - 1 == ALL % number, value, otherwise)


def test_steps_that_are_alike_are_healthy() -> None:
    """Some noise, and a spike that is rarer than one in a hundred, are no pitfall."""
    noise = np.random.default_rng(0).integers(9 * MS, 14 * MS, 400)
    assert found(decode_steps(duration_ns=noise)) is None
    assert found(decode_steps(duration_ns=every(200, 90 * MS, 10 * MS))) is None


def test_spikes_are_found_with_their_cause() -> None:
    """Every fiftieth step waits 40 ms for copies."""
    window = decode_steps(
        duration_ns=every(50, 50 * MS, 10 * MS),
        sync_ns=every(50, 40 * MS),
        num_copies=every(50, 3),
        num_page_ins=every(100, 3),
        link_ns=every(50, 40 * MS),
        offload=OffloadConfig(io_streams=0, deferred_events=False),
    )
    finding = found(window)
    assert finding is not None
    assert (finding.pitfall, finding.severity) == (Pitfall.LATENCY_SPIKE, Severity.WARNING)
    assert "wait for copies" in finding.summary
    numbers = finding.evidence
    assert numbers["p99_over_usual"] == pytest.approx(5.0)
    assert (numbers["decode_p50_ms"], numbers["decode_p99_ms"]) == (10.0, 50.0)
    assert numbers["num_steps_with_sync"] == 8
    assert numbers["num_steps_with_copies_and_page_ins"] == 4
    assert numbers["spikes_sync_share"] == pytest.approx(1.0)
    assert numbers["copy_overlap"] == 0.0
    changes = [advice.change for advice in finding.advice]
    assert changes == [
        "io_streams=2 (now 0)",
        "deferred_events=True (now False)",
        "batch_period_ms=50 (now 0)",
    ]


def test_a_prompt_is_work_and_no_spike() -> None:
    """Steps that compute prompts take twenty times as long, and say nothing."""
    assert (
        found(
            decode_steps(
                duration_ns=every(10, 200 * MS, 10 * MS),
                num_prefill_tokens=every(10, 2_000),
            )
        )
        is None
    )


@settings(max_examples=20, deadline=None)
@given(
    fixed=st.integers(1, 20), per_sequence=st.integers(0, 10**5), per_token=st.integers(1, 40),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_work_explains_time(fixed: int, per_sequence: int, per_token: int, seed: int) -> None:
    """Batches come and go and contexts grow tenfold: as long as time is their sum, nothing spikes."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 256, 400)
    tokens = sizes * draw.integers(100, 5_000, 400)
    times = fixed * MS + per_sequence * sizes + per_token * tokens
    window = decode_steps(batch_size=sizes, num_decodes=sizes, num_kv_tokens=tokens, duration_ns=times)
    assert found(window) is None


def test_time_between_steps_counts_for_those_who_decode() -> None:
    """Their tokens are as late whether a step waits or nobody begins it; who waits for work is not late."""
    late = every(50, 45 * MS)
    finding = found(decode_steps(between_ns=late))
    assert finding is not None
    assert "between steps" in finding.summary
    idle = decode_steps(
        between_ns=late, num_decodes=every(50, 0, 32), num_prefill_tokens=every(50, 300), duration_ns=10 * MS
    )
    assert found(idle) is None


def test_compilation_in_a_step_is_found_even_once() -> None:
    """One step in a thousand, in a run that is too short for percentiles."""
    compiled = np.zeros(50, np.int64)
    compiled[0] = 2_000 * MS
    finding = found(decode_steps(50, compile_ns=compiled, duration_ns=10 * MS + compiled))
    assert finding is not None
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["num_steps_with_compilation"] == 1
    assert finding.advice[0].change == "warm_up=True"


def test_waiting_in_every_step_is_no_spike_but_found() -> None:
    """Where all steps wait as long, the share of time tells."""
    finding = found(decode_steps(sync_ns=2 * MS))
    assert finding is not None
    assert "20% of the time in steps" in finding.summary
    assert found(decode_steps(sync_ns=2 * MS), sync_ratio=0.3) is None


def test_few_steps_say_nothing_of_percentiles() -> None:
    """Fewer than a hundred have no hundredth part; none, and no decodes, are bearable."""
    times = np.where(np.arange(90) % 30 == 0, 90 * MS, 10 * MS)
    assert found(decode_steps(90, duration_ns=times)) is None
    assert found(decode_steps(90, duration_ns=times), least_steps=90) is not None
    assert found(window_of(5, num_prefill_tokens=100, batch_size=1, duration_ns=MS)) is None


def test_advice_fits_the_settings() -> None:
    """What is set already is not advised; a wait behind evictions has another remedy."""
    finding = found(decode_steps(sync_ns=2 * MS, offload=OffloadConfig()))
    assert finding is not None
    (advice,) = finding.advice
    assert "max_chunk_tokens" in advice.change


@pytest.mark.parametrize(
    "wrong", [{"spike_ratio": 0.5}, {"sync_ratio": 2}, {"compile_ratio": "x"}, {"least_steps": 0}]
)
def test_thresholds_are_checked(wrong: dict[str, Any]) -> None:
    """A number out of range is refused."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LatencySpikeThresholds(**wrong)

"""The seeded generator, and what it writes."""

import hashlib
import io
import os
import statistics
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.traces import PRESETS, Trace, TraceRequest, Workload, generate, read_trace, write_trace


def written(trace: Trace) -> str:
    """The trace as it stands in a file."""
    stream = io.StringIO()
    write_trace(trace, stream)
    return stream.getvalue()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_round_trip(preset: str, tmp_path: Path) -> None:
    """What is written is read back as an equal trace."""
    trace = generate(preset, num_requests=150, seed=7)
    path = tmp_path / "trace"
    path.write_text(written(trace))

    assert read_trace(path) == trace


def test_round_trip_in_mooncake_blocks(tmp_path: Path) -> None:
    """With Mooncake's own block size the rows have no key for it."""
    trace = generate("chat", num_requests=20, seed=0, block_size=512)
    path = tmp_path / "trace"
    path.write_text(written(trace))

    assert "block_size" not in path.read_text()
    assert read_trace(path) == trace


def test_writes_what_is_there() -> None:
    """Rows have no keys for what the request does not have."""
    trace = Trace("", "azure", None, (TraceRequest(0, 1, None, 5, 6),))

    assert written(trace) == '{"input_length": 5, "output_length": 6}\n'


def test_is_the_same_everywhere() -> None:
    """A preset and a seed stand for one trace, in every process and on every machine."""
    program = (
        "import hashlib, io; from pagedkv.traces import generate, write_trace; s = io.StringIO();"
        "write_trace(generate('chat', num_requests=300, seed=3), s);"
        "print(hashlib.sha256(s.getvalue().encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }

    here = hashlib.sha256(written(generate("chat", num_requests=300, seed=3)).encode()).hexdigest()
    assert digests == {here, "eb1ff14fa394aecba357bd3c482465a7f354ee583cdb428a39931ccde8458d5a"}


def test_seeds_differ() -> None:
    """Another seed is another trace; more requests only add some at the end."""
    trace = generate("chat", num_requests=50, seed=0)

    assert generate("chat", num_requests=50, seed=1) != trace
    assert generate("chat", num_requests=80, seed=0).requests[:50] == trace.requests


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**9),
    block_size=st.sampled_from([1, 7, 16, 64]),
    system_tokens=st.integers(0, 100),
    turns_mean=st.sampled_from([1.0, 3.0]),
    max_prompt_tokens=st.sampled_from([101, 300, 5000]),
)
def test_ids_are_chained(seed: int, **settings_: float) -> None:
    """Equal ids mean equal prefixes, ids never repeat in a prompt, and there are as many as blocks."""
    trace = generate("chat", num_requests=60, seed=seed, message_tokens_mean=40, **settings_)

    parent: dict[int, int] = {}
    for request in trace.requests:
        ids = list(request.block_ids or ())
        assert len(ids) == -(-request.num_prompt_tokens // int(settings_["block_size"]))
        assert len(set(ids)) == len(ids)
        for before, block_id in pairwise([-1, *ids]):
            assert parent.setdefault(block_id, before) == before


def test_turns_extend_the_conversation() -> None:
    """The next prompt of a conversation holds the last prompt and its output, and begins with its blocks."""
    trace = generate("chat", num_requests=400, seed=5)
    last: dict[object, TraceRequest] = {}
    num_turns = 0
    for request in trace.requests:
        if (before := last.get(request.session_id)) is not None:
            num_turns += 1
            full = before.num_prompt_tokens // 16
            assert request.num_prompt_tokens > before.num_prompt_tokens + before.num_output_tokens
            assert list(request.block_ids or ())[:full] == list(before.block_ids or ())[:full]
            assert (request.arrival_ms or 0) >= (before.arrival_ms or 0) + (request.think_ms or 0)
        else:
            assert request.think_ms is None
        last[request.session_id] = request
    assert num_turns > 100


def test_system_prompts_are_shared() -> None:
    """Conversations with the same system prompt share its full blocks and nothing else."""
    trace = generate("chat", num_requests=200, seed=2, turns_mean=1, num_system_prompts=3, system_tokens=40)
    first_ids = Counter((r.block_ids or ())[0] for r in trace.requests)
    third_ids = Counter((r.block_ids or ())[2] for r in trace.requests)

    assert len(first_ids) == 3
    assert set(third_ids.values()) == {1}


def test_lengths_have_the_means() -> None:
    """Means are those of the lengths, not of their logarithms."""
    trace = generate("code", num_requests=20_000, seed=0, system_tokens=0, max_prompt_tokens=10**6)
    prompts = [r.num_prompt_tokens for r in trace.requests]

    assert statistics.fmean(prompts) == pytest.approx(1800, rel=0.05)
    assert statistics.median(prompts) == pytest.approx(1800 / 2.718281828**0.5, rel=0.05)
    assert statistics.fmean(r.num_output_tokens for r in trace.requests) == pytest.approx(28, rel=0.06)


@pytest.mark.parametrize(("burstiness", "tolerance"), [(1.0, 0.1), (10.0, 0.15)])
def test_arrivals_have_the_rate_and_the_burstiness(burstiness: float, tolerance: float) -> None:
    """Requests arrive at the rate, and their counts in windows vary as much as asked for."""
    trace = generate("code", num_requests=40_000, seed=0, request_rate_per_s=5.0, burstiness=burstiness)
    arrivals = [r.arrival_ms or 0 for r in trace.requests]
    counts = Counter(arrival // 10_000 for arrival in arrivals)
    windows = [counts[window] for window in range(arrivals[-1] // 10_000)]

    assert arrivals == sorted(arrivals)
    assert 40_000 / arrivals[-1] * 1000 == pytest.approx(5.0, rel=0.05)
    assert statistics.pvariance(windows) / statistics.fmean(windows) == pytest.approx(
        burstiness, rel=tolerance
    )


def test_samples_and_beams() -> None:
    """The share of requests that want several samples or beams is as asked for."""
    samples = generate("samples", num_requests=1000, seed=0, fork_ratio=0.3)
    beams = generate("beams", num_requests=10, seed=0)

    counts = Counter(r.num_samples for r in samples.requests)
    assert set(counts) == {1, 4}
    assert counts[4] == pytest.approx(300, abs=60)
    assert {(r.num_samples, r.beam_width) for r in beams.requests} == {(1, 4)}


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"num_requests": 0}, "num_requests is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"turns": 3}, "a workload has no setting turns"),
        ({"burstiness": 0.5}, "burstiness is 0.5; it must be float, at least 1"),
        ({"request_rate_per_s": 0.0}, "request_rate_per_s is 0.0; it must be float, at least 1e-06"),
        ({"request_rate_per_s": 1e-310}, "request_rate_per_s is 1e-310; it must be float, at least 1e-06"),
        ({"block_size": 16.0}, "block_size is 16.0; it must be int"),
        ({"message_tokens_mean": float("nan")}, "message_tokens_mean is nan"),
        ({"output_tokens_mean": float("inf")}, "output_tokens_mean is inf"),
        ({"fork_ratio": 1.5}, "fork_ratio is 1.5; it is a share"),
        ({"system_tokens": 32_768}, "system_tokens is 32768; it must be less than max_prompt_tokens"),
        ({"num_samples": True}, "num_samples is True"),
    ],
)
def test_impossible_settings_are_refused(settings_: dict[str, float], message: str) -> None:
    """A setting that is unknown or out of range is a configuration error that names it."""
    arguments = {"num_requests": 10, "seed": 0} | settings_

    with pytest.raises(ConfigError, match=message):
        generate("chat", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_lowest_rate(preset: str, tmp_path: Path) -> None:
    """The lowest rate gives finite arrival times, which can be read back."""
    trace = generate(preset, num_requests=50, seed=0, request_rate_per_s=1e-6)
    path = tmp_path / "trace.jsonl"
    path.write_text(written(trace))

    assert read_trace(path) == trace


def test_unknown_presets_are_refused() -> None:
    """A preset that does not exist is refused with those that do."""
    with pytest.raises(ConfigError, match=r"preset 'chit' is unknown; there are agentic, .*chat"):
        generate("chit", num_requests=1, seed=0)


def test_a_workload_of_ones_own() -> None:
    """A workload can be given instead of a preset."""
    trace = generate(Workload(block_size=8), num_requests=3, seed=0)

    assert (trace.block_size, len(trace.requests)) == (8, 3)

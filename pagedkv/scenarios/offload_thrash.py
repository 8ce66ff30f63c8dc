"""Offload thrash: questions about documents that fit neither the device nor the host memory below it."""

from dataclasses import replace
from typing import Any

from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.scenario import Cure, Metric, Outcome, Scenario, Setup
from pagedkv.traces import Trace, generate

__all__ = ["HOST_MULTIPLES", "OFFLOAD_THRASH", "host_memory", "questions"]

_GIB = 2**30
_NUM_BLOCKS = 3000  # of 64 tokens: 23.4 GiB
_DEVICE_BYTES = _NUM_BLOCKS * 64 * 2**17  # llama-3-8b: 128 KiB a token
HOST_MULTIPLES = (0.25, 0.5, 1, 2, 4)
"""Host memory as multiples of the device's blocks, for the rule of thumb that says 2."""


def questions(
    seed: int, *, num_requests: int = 150, num_documents: int = 60, rate_per_s: float = 4.0
) -> Trace:
    """Questions, each about one of some documents of 8000 tokens, with which its prompt begins."""
    return generate(
        "chat",
        num_requests=num_requests,
        seed=seed,
        block_size=64,
        num_system_prompts=num_documents,
        system_tokens=8_000,
        message_tokens_mean=200.0,
        message_tokens_sigma=0.5,
        output_tokens_mean=150.0,
        output_tokens_sigma=0.5,
        turns_mean=1.0,
        burstiness=1.0,
        request_rate_per_s=rate_per_s,
        max_prompt_tokens=16_000,
    )


def _setup(**offload: Any) -> Setup:
    settings: dict[str, Any] = {
        "pinned_bytes": 8 * _GIB,
        "nvme_bytes": 128 * _GIB,
        "prefetch_blocks": 0,
        "io_threads": 1,
    }
    return Setup(
        trace=questions,
        cache=CacheConfig(num_blocks=_NUM_BLOCKS, block_size=64),
        scheduler=SchedulerConfig(max_running=12),
        offload=OffloadConfig(**(settings | offload)),
        how={"device": "a100"},
    )


def host_memory(multiple: float, *, nvme_bytes: int = 128 * _GIB) -> Setup:
    """The sick setup with host memory of so many times the device's blocks."""
    return _setup(pinned_bytes=int(multiple * _DEVICE_BYTES), nvme_bytes=nvme_bytes)


def _awaited_ms(outcome: Outcome) -> int:
    return outcome.window.total("awaited_ns") // 10**6


def _page_in_p90_us(outcome: Outcome) -> int:
    """Of the longest page-in of each step, the 90th percentile by nearest rank."""
    times = sorted(time for time in outcome.window["page_in_ns"].tolist() if time)
    return times[-(-90 * len(times) // 100) - 1] // 1000 if times else 0


_SEVERE = _setup()
_NO_FILE = _setup(nvme_bytes=0, io_threads=4, prefetch_blocks=4096)

OFFLOAD_THRASH = Scenario(
    pitfall=Pitfall.OFFLOAD_THRASH,
    about="Each question reads a document, which has gone to the file since somebody asked about it last. It "
    "comes back when the question's turn has come, and pushes another one out.",
    sick={
        "mild": _setup(queue_depth=64),
        "severe": _SEVERE,
        "short of host memory": _setup(pinned_bytes=3 * _GIB),
    },
    cures=(
        Cure(
            setting="pinned_bytes",
            change="pinned_bytes=50_331_648_000",
            setup=host_memory(2),
            note="Twice the device's blocks, here. What matters is whether it holds what comes back.",
        ),
        Cure(
            setting="prefetch_blocks",
            change="prefetch_blocks=4096",
            setup=_setup(prefetch_blocks=4096),
            note="Works for requests that wait in line, and where there is room to bring pages into.",
        ),
        Cure(
            setting="io_threads",
            change="io_threads=4",
            setup=_setup(io_threads=4),
            silences=False,
            note="A thread's checksum no longer keeps the disk waiting.",
        ),
        Cure(
            setting="queue_depth",
            change="queue_depth=256",
            setup=_setup(queue_depth=256),
            note="Reads that are under way go on while a long step runs; others are begun between steps.",
        ),
        Cure(
            setting="nvme_bytes",
            change="nvme_bytes=137_438_953_472",
            setup=replace(_NO_FILE, offload=_setup(io_threads=4, prefetch_blocks=4096).offload),
            before=_NO_FILE,
            note="Without a file nothing comes back late: what host memory loses is computed again.",
        ),
    ),
    metrics=(
        Metric("awaited_ms", _awaited_ms),
        Metric("page_in_p90_us", _page_in_p90_us),
        Metric("ttft_p50_ms", lambda outcome: outcome.result.ttft_p50_ns // 10**6),
        Metric("prefill_tokens", lambda outcome: outcome.result.prefill_tokens),
    ),
    log_lines=(
        "[Offload] Page-in latency > 20ms",
        "[Offload] Page-in stall",
        "[Offload] Throttling IO thread",
    ),
)
"""See `Scenario`."""

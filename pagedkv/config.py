"""Settings: frozen, checked when they are made."""

import math
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal, get_args

from pagedkv.checks import require_bool, require_int, require_number
from pagedkv.errors import ConfigError

__all__ = [
    "CacheConfig",
    "EvictionPolicy",
    "ForkMode",
    "OffloadConfig",
    "Policy",
    "PrefixKeys",
    "SchedulerConfig",
]

Policy = Literal["fcfs", "lifo", "priority"]
ForkMode = Literal["lazy", "eager", "full_blocks"]
PrefixKeys = Literal["tokens", "ids"]
EvictionPolicy = Literal["lru", "arc", "fifo"]

_MAX_BYTES = 2**63 - 1
_MOST_THREADS = 1024
_LONGEST_MS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Settings of a `BlockManager`.

    Args:
        num_blocks: blocks in the pool.
        block_size: tokens in a block.
        prefix_caching: keep full blocks after their sequences end, and reuse them for equal prefixes.
        fork_mode: "lazy" copies a shared, partly filled block at the first write to it; "eager" copies it
            when the fork happens, so that no decode step pays for it; "full_blocks" does not share it, so
            that shared blocks are only ever read and nothing is copied: whoever forks computes the rest,
            fewer tokens than a block has, once more.
        prefix_keys: what a full block is known by. "tokens" compares the tokens themselves. "ids" takes
            ready, prefix-chained block ids from the caller (`BlockManager.admit_keys`), as traces have
            them; equal ids are then taken to mean equal prefixes.

    Raises:
        ConfigError: a number that is not positive, or an unknown choice.
    """

    num_blocks: int
    block_size: int = 16
    prefix_caching: bool = True
    fork_mode: ForkMode = "lazy"
    prefix_keys: PrefixKeys = "tokens"

    def __post_init__(self) -> None:
        require_int("num_blocks", self.num_blocks, 1)
        require_int("block_size", self.block_size, 1)
        require_bool("prefix_caching", self.prefix_caching)
        _require_choice("fork_mode", self.fork_mode, get_args(ForkMode))
        _require_choice("prefix_keys", self.prefix_keys, get_args(PrefixKeys))


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Settings of a `Scheduler`.

    Args:
        max_batch_tokens: tokens that a step computes at most.
        max_running: sequences that run at once at most; samples and beams count each. More than
            `max_batch_tokens` never run, so that all of them decode in every step.
        policy: who goes first, and who is preempted last. "fcfs": who came first. "lifo": who came last.
            "priority": the smaller `Request.priority`, then who came first.
        chunked_prefill: compute prompts in pieces, beside decoding sequences; without, a prompt longer than
            `max_batch_tokens` is refused.
        max_chunk_tokens: prompt tokens that a step computes of one request at most; None for no bound
            besides `max_batch_tokens`. Smaller ones keep steps short for those that decode.
        watermark_ratio: share of the pool that admission leaves free while others run, for them to grow.
        max_overtakes: requests that may be admitted before one that does not fit yet, because they do. Then
            it is its turn: none behind it is admitted.
        max_wait_ms: a request that has waited longer, or was preempted three times, goes first, whatever the
            policy, and keeps that rank; None for never. Where more comes than can be served, all wait longer
            some day, and "lifo" and "priority" end as "fcfs".
        batch_merge_window_ms: how long an arrival waits for others, so that their prompts are computed
            together and the batch grows at once. A full batch, or a full step of tokens, does not wait.
        batch_period_ms: steps begin at multiples of this time only, so that tokens come evenly whatever a
            step waits for within it, and arrivals join together; 0 for at once. A step waits for the next
            multiple, so that throughput falls as far as steps are shorter.
        length_buckets: upper bounds of prompt lengths, ascending. A step begins prompts of one bucket only,
            that of the first in line, so that short prompts do not wait for a long one's step.
        adaptive_batch_size: after a preemption, let only as many sequences run as ran on average, and then
            more and more again while none is preempted.
        batch_average_steps: steps that the moving average of the batch size reaches back, for the adaptive
            one and for the log line about a reduced batch.

    Raises:
        ConfigError: a value outside its range, or values that contradict each other.
    """

    max_batch_tokens: int = 2048
    max_running: int = 256
    policy: Policy = "fcfs"
    chunked_prefill: bool = True
    max_chunk_tokens: int | None = None
    watermark_ratio: float = 0.01
    max_overtakes: int = 8
    max_wait_ms: float | None = 60_000.0
    batch_merge_window_ms: float = 0.0
    batch_period_ms: float = 0.0
    length_buckets: tuple[int, ...] = ()
    adaptive_batch_size: bool = False
    batch_average_steps: int = 32

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_running", "batch_average_steps"):
            require_int(name, getattr(self, name), 1)
        if self.max_chunk_tokens is not None:
            require_int("max_chunk_tokens", self.max_chunk_tokens, 1)
            if not self.chunked_prefill:
                raise ConfigError(
                    "max_chunk_tokens is set, and chunked_prefill is off: prompts have no chunks"
                )
        require_int("max_overtakes", self.max_overtakes, 0)
        for name in ("chunked_prefill", "adaptive_batch_size"):
            require_bool(name, getattr(self, name))
        _require_choice("policy", self.policy, get_args(Policy))
        require_number("watermark_ratio", self.watermark_ratio, 0, 1)
        for name in ("batch_merge_window_ms", "batch_period_ms"):
            require_number(name, getattr(self, name), 0, math.inf)
        if self.max_wait_ms is not None:
            require_number("max_wait_ms", self.max_wait_ms, 0, math.inf)
        bounds = self.length_buckets
        if any(type(bound) is not int for bound in bounds) or list(bounds) != sorted({*bounds, 1} - {1}):
            raise ConfigError(f"length_buckets is {bounds!r}; it must be ascending ints above 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadConfig:
    """Settings of the tiers below the device: host memory, and behind it a file.

    Args:
        pinned_bytes: host memory for pages, pinned where there is a GPU; None for as much as the device's
            blocks take, or a quarter of what the host has left, if that is less. What more is good for
            depends on how much comes back: look at `EngineStats.offload`.
        prefetch_blocks: blocks that are brought to the device ahead, for requests whose turn has not come, as
            far as there is room that nobody needs;
            0 for none.
        io_threads: threads that read and write the file.
        io_streams: streams that copy between device and host, beside the one that computes. With 1, both
            directions take turns; with 0, copies are steps' own, which wait for them.
        deferred_events: look between steps which pages have come. Without, a step waits, in the order of its
            stream, for all pages that were asked for before it.
        nvme_path: folder of the file; None for no file.
        nvme_bytes: size of the file at most.
        policy: which pages give way. "lru": those used longest ago. "arc": likewise, but pages that came
            back once are kept apart, and how much room they get adapts (Megiddo and Modha, FAST 2003).
            "fifo": those that came first.
        direct_io: read and write the file past the page cache of the operating system, where the file system
            can.
        queue_depth: reads, and likewise writes, of the file that are under way or wait at most.
        page_in_timeout_ms: how long a request waits for its pages at most; then it begins without them.

    Raises:
        ConfigError: a value outside its range, or values that contradict each other.
    """

    pinned_bytes: int | None = None
    prefetch_blocks: int = 4096
    io_threads: int = 4
    io_streams: int = 2
    deferred_events: bool = True
    nvme_path: str | PathLike[str] | None = None
    nvme_bytes: int = 0
    policy: EvictionPolicy = "lru"
    direct_io: bool = True
    queue_depth: int = 32
    page_in_timeout_ms: float = 2_000.0

    def __post_init__(self) -> None:
        require_int("io_threads", self.io_threads, 1, _MOST_THREADS)
        require_int("io_streams", self.io_streams, 0, _MOST_THREADS)
        require_int("queue_depth", self.queue_depth, 1)
        require_int("prefetch_blocks", self.prefetch_blocks, 0)
        require_int("nvme_bytes", self.nvme_bytes, 0, _MAX_BYTES)
        if self.pinned_bytes is not None:
            require_int("pinned_bytes", self.pinned_bytes, 0, _MAX_BYTES)
        for name in ("direct_io", "deferred_events"):
            require_bool(name, getattr(self, name))
        _require_choice("policy", self.policy, get_args(EvictionPolicy))
        require_number("page_in_timeout_ms", self.page_in_timeout_ms, 0, _LONGEST_MS)
        if self.nvme_path is not None:
            _require_path("nvme_path", self.nvme_path)
            if not self.nvme_bytes:
                raise ConfigError("nvme_path is set and nvme_bytes is 0: say how large the file may become")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")


def _require_path(name: str, value: object) -> None:
    path = fspath(value) if isinstance(value, (str, PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ConfigError(f"{name} is {value!r}; it must be the path of a folder, or None")

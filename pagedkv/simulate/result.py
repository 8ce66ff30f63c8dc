"""What a simulation has found, as integers: what was counted, what changed over time, and each request."""

from dataclasses import asdict, dataclass, field, fields

from pagedkv.offload.stats import OffloadStats
from pagedkv.replay.result import ReplayResult, ratio

__all__ = ["Series", "SimulationResult", "Timeline"]

_NS_PER_S = 10**9


@dataclass(frozen=True, slots=True)
class Timeline:
    """What became of one request. Times are in nanoseconds on the trace's clock.

    Attributes:
        request: its place in the trace.
        arrival_ns: when it came.
        first_scheduled_ns: when its first step began.
        first_token_ns: when its first token was there.
        finished_ns: when its last one was.
        prompt_tokens: tokens of its prompt.
        output_tokens: tokens of all its samples or found beams.
        cached_tokens: prompt tokens that it found in the cache when it was first admitted.
        preemptions: how often it lost its blocks.
        lost_tokens: computed tokens that it lost with them.
    """

    request: int
    arrival_ns: int
    first_scheduled_ns: int
    first_token_ns: int
    finished_ns: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    preemptions: int
    lost_tokens: int


@dataclass(slots=True)
class Series:
    """State over time: one entry of each list for each time looked at.

    Attributes:
        time_ns: when.
        batch_size: sequences in the step before.
        running: requests that run.
        waiting: requests that wait.
        blocks: blocks in use.
        fragmentation_ppm: of a million slots of blocks in use, those that hold no token of a live sequence.
    """

    time_ns: list[int] = field(default_factory=list)
    batch_size: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    fragmentation_ppm: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult(ReplayResult):
    """Result of `simulate`. Times are in nanoseconds; percentiles are exact, by nearest rank; 0 of nothing.

    Attributes:
        requests: all requests of the trace.
        rejected: those that can never run: larger than the pool, or without a prompt.
        steps: steps that computed something.
        makespan_ns: when the last request ended, on the trace's clock.
        busy_ns: time in steps.
        prompt_tokens: prompt tokens of the requests that ran.
        hit_tokens: those of them that requests found in the cache when they were first admitted.
        prefill_tokens: tokens that were computed in prompts, and in whatever preempted requests had lost; not
            the token sampled last, which a resumed sequence computes behind these as a decoding one would.
        recomputed_tokens: those of them that had been computed before, by the same request.
        generated_tokens: tokens of all samples; of beam searches, those of the hypotheses that they return.
        preemptions: how often a request lost its blocks.
        lost_tokens: computed tokens that were lost with them.
        cow_copies: blocks that were copied because of a write to a shared one.
        peak_blocks: most blocks in use at once.
        batch_size_p50: sequences that took part in a step.
        batch_size_p90: likewise.
        batch_size_p99: likewise.
        batch_size_max: likewise.
        batch_size_sum: likewise; its mean is this / `steps`.
        ttft_p50_ns: from a request's arrival to its first token.
        ttft_p90_ns: likewise.
        ttft_p99_ns: likewise.
        inter_token_p50_ns: from a token of a sequence to the next one.
        inter_token_p90_ns: likewise.
        inter_token_p99_ns: likewise.
        end_to_end_p50_ns: from a request's arrival to its last token.
        end_to_end_p99_ns: likewise.
        queue_wait_p50_ns: from a request's arrival to the beginning of its first step.
        queue_wait_p99_ns: likewise.
        max_waiting: most requests that waited at once, when a step had been scheduled.
        fragmentation_mean_ppm: mean of `Series.fragmentation_ppm`, rounded down.
        fragmentation_max_ppm: largest of them.
        block_steps: blocks in use, summed over all steps.
        unshared_block_steps: blocks that the same sequences would use if none was shared, likewise.
        series: state over time.
        timelines: the requests that ran, in the order of the trace.
        offload: traffic with the tiers below the device; None where there are none.
    """

    requests: int
    rejected: int
    steps: int
    makespan_ns: int
    busy_ns: int
    prompt_tokens: int
    hit_tokens: int
    prefill_tokens: int
    recomputed_tokens: int
    generated_tokens: int
    preemptions: int
    lost_tokens: int
    cow_copies: int
    peak_blocks: int
    batch_size_p50: int
    batch_size_p90: int
    batch_size_p99: int
    batch_size_max: int
    batch_size_sum: int
    ttft_p50_ns: int
    ttft_p90_ns: int
    ttft_p99_ns: int
    inter_token_p50_ns: int
    inter_token_p90_ns: int
    inter_token_p99_ns: int
    end_to_end_p50_ns: int
    end_to_end_p99_ns: int
    queue_wait_p50_ns: int
    queue_wait_p99_ns: int
    max_waiting: int
    fragmentation_mean_ppm: int
    fragmentation_max_ppm: int
    block_steps: int
    unshared_block_steps: int
    series: Series
    timelines: tuple[Timeline, ...]
    offload: OffloadStats | None = None

    def as_dict(self) -> dict[str, int | float]:
        """The numbers by name, in the order in which they are declared, then ratios of them."""
        left_out = ("series", "timelines", "offload")
        names = [each.name for each in fields(self) if each.name not in left_out]
        return {name: getattr(self, name) for name in names} | self.ratios() | self._traffic()

    def ratios(self) -> dict[str, float]:
        """Shares and rates: hits of the prompt tokens, blocks that sharing saves, tokens a second."""
        saved = self.unshared_block_steps - self.block_steps
        return {
            "hit_ratio": ratio(self.hit_tokens, self.prompt_tokens),
            "sharing_saving": ratio(saved, self.unshared_block_steps),
            "batch_size_mean": ratio(self.batch_size_sum, self.steps),
            "busy_ratio": ratio(self.busy_ns, self.makespan_ns),
            "generated_tokens_per_s": ratio(self.generated_tokens * _NS_PER_S, self.makespan_ns),
        }

    def _traffic(self) -> dict[str, int]:
        """`offload` as numbers by name, where there is any."""
        if self.offload is None:
            return {}
        numbers = asdict(self.offload)
        moved, failed = numbers.pop("num_bytes"), numbers.pop("num_errors")
        by_route = {f"offload_{route}_bytes": moved[route] for route in moved}
        return {
            **{f"offload_{name}": value for name, value in numbers.items()},
            **by_route,
            "offload_num_errors": sum(failed.values()),
        }

    def over_time(self) -> dict[str, list[int]]:
        """`series` as lists by name."""
        return asdict(self.series)

    def timeline_columns(self) -> dict[str, list[int]]:
        """`timelines` as lists by name: of each, an entry for each request."""
        names = [each.name for each in fields(Timeline)]
        return {name: [getattr(each, name) for each in self.timelines] for name in names}

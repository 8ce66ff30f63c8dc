"""A trace through the real scheduler and cache, on a virtual clock."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.engine.executor import Executor
from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.offload.tiers import PageTiers
from pagedkv.replay.result import Progress, block_size_for
from pagedkv.request import Request
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler import ScheduledStep, Scheduler
from pagedkv.scheduler.idle import IdleSteps
from pagedkv.simulate.arrivals import Arrivals
from pagedkv.simulate.cost import CostModel
from pagedkv.simulate.executor import DEFAULT_PEAK, SimulatedExecutor
from pagedkv.simulate.measures import Measures
from pagedkv.simulate.mover import SimulatedMover
from pagedkv.simulate.profiles import DeviceProfile
from pagedkv.simulate.prompts import Prompts
from pagedkv.simulate.result import SimulationResult
from pagedkv.simulate.searches import Searches
from pagedkv.simulate.shapes import ModelShape
from pagedkv.traces import Trace, TraceRequest

__all__ = ["fitting_cache", "simulate"]

_NS_PER_MS = 1_000_000


def fitting_cache(
    trace: Trace,
    *,
    device: str | DeviceProfile = "h200",
    model: str | ModelShape = "llama-3-8b",
    num_devices: int = 1,
    block_size: int | None = None,
    prefix_caching: bool = True,
) -> CacheConfig:
    """Settings of a cache with as many blocks as fit behind the weights into 90% of the memory.

    Args:
        trace: says the block size, if nobody does.
        device: a profile, or the name of one.
        model: a shape, or the name of one.
        num_devices: devices that share every layer.
        block_size: tokens in a block; by default that of the trace's ids, or 16.
        prefix_caching: whether full blocks are reused.

    Raises:
        ConfigError: a name is unknown, a number is out of range, or the model does not fit.
    """
    size = block_size_for(trace, block_size)
    cost = CostModel(device, model, block_size=size, num_devices=num_devices)
    return CacheConfig(num_blocks=cost.num_blocks_fitting(), block_size=size, prefix_caching=prefix_caching)


def simulate(
    trace: Trace,
    *,
    cache: CacheConfig | None = None,
    scheduler: SchedulerConfig | None = None,
    offload: OffloadConfig | None = None,
    device: str | DeviceProfile = "h200",
    model: str | ModelShape = "llama-3-8b",
    num_devices: int = 1,
    time_scale: float = 1.0,
    closed_loop: bool = True,
    sample_interval_ms: int = 1000,
    seed: int = 0,
    peak: float = DEFAULT_PEAK,
    warm_up: bool = True,
    progress: Progress | None = None,
    observe: Callable[[Scheduler], object] | None = None,
) -> SimulationResult:
    """Serve a trace: everything is real but the device, whose steps take the time that they cost.

    Requests arrive at the trace's times; later ones of a session follow the answer before by their think
    time, where the trace has one. Each gets as many tokens as the trace says, at least one: neither it nor
    its samples stop before. Equal arguments give equal results, whatever the machine.

    Args:
        trace: the requests.
        cache: settings of the cache; None for `fitting_cache`. Prompts are known by the trace's block ids,
            whatever `prefix_keys` is.
        scheduler: settings of the scheduler; None for the usual ones.
        offload: settings of the tiers below the device; None for none. Their sizes and policies count, and
            what moves pages is a `SimulatedMover`.
        device: a profile, or the name of one.
        model: a shape, or the name of one.
        num_devices: devices that share every layer.
        time_scale: what all times of the trace are multiplied by; 2 halves the load.
        closed_loop: whether think times count; without, all requests come at their own times.
        sample_interval_ms: virtual time between two entries of `SimulationResult.series`.
        seed: of the tokens, and of what beams choose from.
        peak: see `SimulatedExecutor`.
        warm_up: likewise.
        progress: told how many requests have ended.
        observe: called with the scheduler before the first request comes, to attach sinks to its events.

    Raises:
        ConfigError: settings that cannot work, or that the trace has no ids for.
        TraceFormatError: a request has no arrival time.
    """
    given = cache or fitting_cache(trace, device=device, model=model, num_devices=num_devices)
    settled = replace(given, prefix_keys="ids")
    if type(sample_interval_ms) is not int or sample_interval_ms < 1:
        raise ConfigError(f"sample_interval_ms is {sample_interval_ms!r}; it must be an int of at least 1")
    cost = CostModel(device, model, block_size=settled.block_size, num_devices=num_devices)
    prompts = Prompts(trace, settled.block_size, prefix_caching=settled.prefix_caching)
    arrivals = Arrivals(trace, time_scale=time_scale, closed_loop=closed_loop)
    clock = VirtualClock()
    mover = None if offload is None else _mover(offload, settled, cost, clock)
    tiers = None if offload is None or mover is None else partial(PageTiers, mover, offload, clock=clock)
    blocks = BlockManager(settled, tiers)
    chosen = Scheduler(blocks, scheduler or SchedulerConfig(), clock)
    if observe is not None:
        observe(chosen)
    service = _Service(
        chosen,
        SimulatedExecutor(
            clock,
            cost,
            seed=seed,
            peak=peak,
            makes_tokens=False,
            warm_up=warm_up,
            events=chosen.events,
            begin_step=None if mover is None else mover.begin_step,
        ),
        clock,
        sample_interval_ms * _NS_PER_MS,
    )
    return service.run(trace, arrivals, prompts, progress)


def _mover(
    offload: OffloadConfig, cache: CacheConfig, cost: CostModel, clock: VirtualClock
) -> SimulatedMover:
    """What moves pages between a simulated device and tiers of these sizes."""
    page_bytes = cost.block_bytes
    pinned = cache.num_blocks * page_bytes if offload.pinned_bytes is None else offload.pinned_bytes
    if pinned < (2 if offload.nvme_bytes else 1) * page_bytes:
        raise ConfigError(
            f"pinned_bytes is {pinned}, and a block is {page_bytes} bytes: there must be room for "
            "one, and for two in front of a file"
        )
    return SimulatedMover(
        clock,
        cost.device,
        page_bytes=page_bytes,
        num_slots=pinned // page_bytes,
        num_places=offload.nvme_bytes // page_bytes,
        num_devices=cost.num_devices,
        io_streams=offload.io_streams,
        io_threads=offload.io_threads,
        deferred_events=offload.deferred_events,
    )


class _Service:
    """The loop of an engine, with arrivals."""

    def __init__(
        self, scheduler: Scheduler, executor: Executor, clock: VirtualClock, sample_interval_ns: int
    ) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._clock = clock
        self._searches = Searches()
        self._measures = Measures(scheduler.cache, sample_interval_ns)
        scheduler.events.attach(self._measures)
        self._idle = IdleSteps(scheduler)
        self._num_finished = self._num_rejected = 0

    def run(
        self, trace: Trace, arrivals: Arrivals, prompts: Prompts, progress: Progress | None
    ) -> SimulationResult:
        """Serve all requests."""
        total = len(trace.requests)
        while self._num_finished + self._num_rejected < total:
            for at_ns, request in arrivals.due(self._clock.now_ns()):
                self._arrive(request, at_ns, arrivals, prompts)
            if (step := self._scheduler.schedule()) and self._run(step, trace, arrivals) and progress:
                progress(self._num_finished + self._num_rejected, total)
            if not step:
                self._wait(step, arrivals)
            self._measures.look(self._scheduler, self._clock.now_ns())
        return self._measures.result(requests=total, rejected=self._num_rejected)

    def _arrive(self, request: TraceRequest, at_ns: int, arrivals: Arrivals, prompts: Prompts) -> None:
        params = _params(request)
        try:
            asked = Request(
                request_id=request.index,
                prompt=prompts.of(request),
                max_tokens=params.max_tokens or 1,
                num_sequences=params.num_sequences,
                arrival_ns=at_ns,
                sampling=params,
            )
            state = self._scheduler.add(asked)
        except InvalidRequest:
            self._num_rejected += 1
            arrivals.ended(request, at_ns)
            return
        self._searches.begin(state)

    def _run(self, step: ScheduledStep, trace: Trace, arrivals: Arrivals) -> int:
        """Run a step; returns how many requests have ended with it."""
        self._idle.stepped(is_idle=False)
        self._measures.scheduled(step, self._scheduler.num_waiting)
        sampled = self._executor.execute(step)
        finished = self._scheduler.commit(step, self._searches.result(step, sampled))
        for state in finished:
            self._measures.finished(state, sum(self._searches.end(state)))
            arrivals.ended(trace.requests[int(state.request_id)], self._clock.now_ns())
        self._num_finished += len(finished)
        return len(finished)

    def _wait(self, step: ScheduledStep, arrivals: Arrivals) -> None:
        """Nothing can run now: go to the time at which that may change."""
        tiers = self._scheduler.cache.tiers
        page_ns = tiers.next_ns() if tiers is not None and step.awaits_pages else None
        times = [time for time in (step.wake_ns, page_ns, arrivals.next_ns) if time is not None]
        self._idle.stepped(is_idle=not times)
        if times:
            self._clock.sleep_until(min(times))


def _params(request: TraceRequest) -> SamplingParams:
    """A beam search where the trace has one, else samples; a token at least."""
    is_search = request.beam_width > 1
    return SamplingParams(
        max_tokens=max(1, request.num_output_tokens),
        n=1 if is_search else request.num_samples,
        beam_width=request.beam_width,
        seed=0,
    )

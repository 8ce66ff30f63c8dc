"""Runs that are recorded in no time, of every kind that a page has something to say about."""

from dataclasses import replace
from functools import cache
from typing import Any

from pagedkv import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.pitfalls import Pitfall, Thresholds
from pagedkv.recording import RunRecord, RunRecorder
from pagedkv.scenarios import SCENARIOS, Setup
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.traces import Trace, generate

__all__ = ["CACHE", "KINDS", "busy", "kind", "recorded", "sick"]

CACHE = CacheConfig(num_blocks=150, block_size=16)
KINDS = ("healthy", "empty", *(pitfall.value for pitfall in Pitfall))


def busy(seed: int = 0, num_requests: int = 40) -> Trace:
    """Requests with samples, of which not all fit at once; half of them come much later."""
    trace = generate("samples", num_requests=num_requests, seed=seed, block_size=16)
    requests = (
        replace(each, arrival_ms=index + 4_000 * (index % 2), num_output_tokens=40)
        for index, each in enumerate(trace.requests)
    )
    return replace(trace, requests=tuple(requests))


def recorded(
    trace: Trace,
    cache: CacheConfig = CACHE,
    *,
    scheduler: SchedulerConfig | None = None,
    offload: OffloadConfig | None = None,
    about: dict[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    **how: Any,
) -> tuple[RunRecorder, SimulationResult]:
    """Serve a trace, and record it."""
    recorders: list[RunRecorder] = []

    def observe(chosen: Scheduler) -> None:
        recorders.append(RunRecorder(chosen, thresholds=thresholds, about=about))
        chosen.events.attach(recorders[0])

    settings = {"cache": cache, "scheduler": scheduler, "offload": offload}
    result = simulate(trace, observe=observe, **settings, **how)
    return recorders[0], result


def sick(setup: Setup) -> RunRecord:
    """The record of a setup of a scenario."""
    recorder, _ = recorded(
        setup.trace(0), setup.cache, scheduler=setup.scheduler, offload=setup.offload, **setup.how
    )
    return recorder.record()


@cache
def kind(name: str) -> RunRecord:
    """A record by name, one of `KINDS`; the same one each time."""
    if name == "healthy":
        return recorded(
            busy(),
            replace(CACHE, num_blocks=400),
            about={"trace": 'made <up> & "quoted"', "mode": "simulated"},
        )[0].record()
    if name == "empty":
        return recorded(replace(busy(), requests=()))[0].record()
    return sick(SCENARIOS[Pitfall(name)].sick["severe"])

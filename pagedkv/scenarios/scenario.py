"""What a scenario is: a workload and settings that fall into a pitfall, and settings that get out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.pitfalls import Finding, Pitfall, Thresholds, detect
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.stats import StatsWindow, StepLog
from pagedkv.traces import Trace

__all__ = ["Cure", "Metric", "Outcome", "Scenario", "Setup", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A workload and the settings that it runs under, in simulation.

    Attributes:
        trace: the requests of a seed.
        cache: settings of the cache.
        scheduler: settings of the scheduler.
        offload: settings of the tiers below the device; None for none.
        how: other arguments of `pagedkv.simulate.simulate`, by name.
    """

    trace: Callable[[int], Trace]
    cache: CacheConfig
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    offload: OffloadConfig | None = None
    how: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a setup.

    Attributes:
        result: numbers of the whole run.
        window: its steps.
        findings: what detectors say of all of them.
    """

    result: SimulationResult
    window: StatsWindow
    findings: tuple[Finding, ...]

    def finds(self, pitfall: Pitfall) -> bool:
        """Whether this pitfall was found."""
        return any(finding.pitfall is pitfall for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that says how bad a pitfall is: an exact integer, and the less, the better.

    Attributes:
        name: with its unit.
        read: takes it from a run.
    """

    name: str
    read: Callable[[Outcome], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """A setting that is recommended against a pitfall.

    Attributes:
        setting: its name: "block_size".
        change: what it is changed to, as one would write it: "block_size=16".
        setup: the same workload under it, or what the workload becomes.
        of: which sick setup it is tried on, by its name in `Scenario.sick`.
        before: what it is compared with instead, where the sick setup has the cure already.
        silences: whether the pitfall is gone with it. Some help, and not enough; some do not help.
        note: what else one has to know.
    """

    setting: str
    change: str
    setup: Setup
    of: str = "severe"
    before: Setup | None = None
    silences: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A pitfall, how to get into it, and how to get out of it.

    Attributes:
        pitfall: which.
        about: what happens, in a sentence or two.
        sick: setups that fall into it, by name; "severe" is one of them.
        cures: every setting that is recommended against it.
        metrics: what says how bad it is; the first one above all.
        also: other pitfalls that the sick setups fall into too, because of how they are made.
        log_lines: what is logged then, to the letter, up to the numbers.
    """

    pitfall: Pitfall
    about: str
    sick: Mapping[str, Setup]
    cures: tuple[Cure, ...]
    metrics: tuple[Metric, ...]
    also: frozenset[Pitfall] = frozenset()
    log_lines: tuple[str, ...] = ()

    def before(self, cure: Cure) -> Setup:
        """What a cure is compared with."""
        return cure.before or self.sick[cure.of]

    def cure(self, setting: str) -> Cure:
        """The cure by the name of its setting.

        Raises:
            KeyError: there is none.
        """
        for cure in self.cures:
            if cure.setting == setting:
                return cure
        raise KeyError(setting)


def run(setup: Setup, seed: int, thresholds: Thresholds | None = None) -> Outcome:
    """Simulate a setup and let the detectors look at it; equal arguments give equal outcomes."""
    logs: list[StepLog] = []

    def observe(scheduler: Scheduler) -> None:
        log = StepLog(scheduler.cache, scheduler=setup.scheduler, offload=setup.offload)
        scheduler.events.attach(log)
        logs.append(log)

    result = simulate(
        setup.trace(seed),
        cache=setup.cache,
        scheduler=setup.scheduler,
        offload=setup.offload,
        observe=observe,
        **setup.how,
    )
    window = logs[0].window()
    return Outcome(result=result, window=window, findings=tuple(detect(window, thresholds)))

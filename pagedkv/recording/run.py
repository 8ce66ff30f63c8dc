"""What a run was like, as it is kept in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagedkv.pitfalls import Finding
from pagedkv.recording.bins import BinnedSteps
from pagedkv.recording.histogram import Distribution
from pagedkv.recording.looks import Looks

__all__ = ["DISTRIBUTIONS", "Episode", "RunRecord"]

DISTRIBUTIONS = ("ttft_ns", "step_ns", "inter_token_ns")
"""From a request's arrival to its first token; what a step took; from a token to the next one."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Steps in which something was wrong.

    Attributes:
        start_step: the first of them, counted from the first step of the run.
        stop_step: the one behind the last.
        start_ns: when the first began.
        stop_ns: when the last one ended.
        finding: what was wrong.
    """

    start_step: int
    stop_step: int
    start_ns: int
    stop_ns: int
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What an engine or a simulation was like from its first recorded step to its last.

    Attributes:
        about: what was run, by names of the caller's choice.
        settings: of "cache", "scheduler" and "offload", by their names; None where there is none.
        num_examined: steps that the detectors looked at, the last ones.
        steps: all steps, binned.
        looks: what the cache looked like.
        distributions: of the durations of `DISTRIBUTIONS`.
        findings: what the detectors say of the examined steps as a whole, the worst first.
        timeline: what they say of some hundred steps at a time.
    """

    about: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any] | None]
    num_examined: int
    steps: BinnedSteps
    looks: Looks
    distributions: Mapping[str, Distribution]
    findings: Sequence[Finding]
    timeline: Sequence[Episode]

    @property
    def num_steps(self) -> int:
        """Steps that were recorded."""
        return sum(self.steps.num_steps)

    @property
    def start_ns(self) -> int:
        """When the first step began, on the run's clock; 0 without a step."""
        if not len(self.steps):
            return 0
        spent = self.steps.total("duration_ns") + self.steps.total("between_ns")
        return self.stop_ns - spent

    @property
    def stop_ns(self) -> int:
        """When the last step ended; 0 without a step."""
        return self.steps.maxima["now_ns"][-1] if len(self.steps) else 0

"""What runs a step: a model on tensors, or a cost model on a virtual clock."""

from typing import Protocol

from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import ScheduledStep

__all__ = ["Executor"]


class Executor(Protocol):
    """Runs what a scheduler has scheduled.

    It may raise: the step is then as if it had not been, and its tokens are computed again.
    """

    def execute(self, step: ScheduledStep) -> Sampled:
        """Run the copies, write the KV, attend, and sample a token for each of `step.sampling()`."""

    def close(self) -> None:
        """Give back what it holds; it is not called again."""

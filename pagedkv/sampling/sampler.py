"""From a step's logits to its next tokens, on whatever device the logits are."""

import numpy as np
import torch

from pagedkv.errors import InvalidRequest
from pagedkv.sampling.lanes import Lengths
from pagedkv.sampling.plan import Plan
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler.step import ScheduledStep

__all__ = ["Sampler"]


class Sampler:
    """Chooses the next tokens of the steps of one scheduler.

    What a sequence gets depends on its logits, its parameters and its place in its request, never on what
    runs beside it. What a batch takes besides its logits stays on the device while the batch stays the same.
    """

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._batch: tuple[int, torch.Size, torch.device] | None = None

    def sample(self, logits: torch.Tensor, step: ScheduledStep) -> Sampled:
        """The next tokens of a step.

        A greedy sequence takes the lowest of equally likely ids. One that is to branch into n samples gets
        its n first tokens; the j-th is drawn as those behind it are for the sample with index j. A beam gets
        the tokens that its search has to know of, with their log-probabilities, less the repetition penalty;
        nothing is drawn for it, and it has no `logprobs`.

        Args:
            logits: behind each sequence of `step.sampling()`. Shape `[num_sampled, vocab]`, any float dtype;
                not changed.
            step: the step that they are of.

        Raises:
            InvalidRequest: the logits are not of this step, or a request has no parameters, or is to be drawn
                and has no seed.
            InvalidLogits: logits without a finite maximum, such as NaN; names the requests.
        """
        if logits.ndim != 2 or len(logits) != step.num_sampled:
            raise InvalidRequest(
                f"logits have the shape {list(logits.shape)}, and the step samples behind {step.num_sampled} "
                "sequences; they must be [num_sampled, vocab]"
            )
        with torch.inference_mode():
            return self._plan_of(logits, step).sample(logits, _lengths(step))

    def _plan_of(self, logits: torch.Tensor, step: ScheduledStep) -> Plan:
        """The last step's plan, if the same sequences decode and nothing else is sampled; or a new one."""
        batch = step.decodes.changes, logits.shape, logits.device
        if self._plan is None or batch != self._batch:
            self._plan = Plan(step.sampling(), logits.shape[1], logits.device)
        has_chunks = step.num_sampled > len(step.decodes)
        self._batch = None if has_chunks else batch
        return self._plan


def _lengths(step: ScheduledStep) -> Lengths:
    stops = [chunk.stop for chunk in step.chunks if chunk.samples]
    return Lengths(
        num_tokens=np.concatenate((step.decodes.positions + 1, np.array(stops, np.int64))),
        last_tokens=step.decodes.token_ids,
    )

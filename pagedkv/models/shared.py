"""One schedule for several ranks: each runs the same scheduler, and what could differ comes from rank 0."""

import zlib

import numpy as np
import torch

from pagedkv.block_manager import BlockManager
from pagedkv.clock import Clock
from pagedkv.config import SchedulerConfig
from pagedkv.errors import InvariantError, PagedKVError
from pagedkv.models.executor import TorchExecutor
from pagedkv.models.ranks import Ranks, portable
from pagedkv.request import Request, RequestId, TokenPrompt
from pagedkv.sampling.sampled import Sampled
from pagedkv.sampling.sampler import Sampler
from pagedkv.scheduler import RequestState, ScheduledStep, Scheduler

__all__ = ["SharedClock", "SharedExecutor", "SharedScheduler"]


class SharedClock:
    """Rank 0's time on all ranks. It stands still between the moments when the ranks agree on it.

    Args:
        own: the clock of this rank; only rank 0's counts.
        ranks: the ranks.
    """

    def __init__(self, own: Clock, ranks: Ranks) -> None:
        self._own, self._ranks = own, ranks
        self._now_ns = own.now_ns()

    def now_ns(self) -> int:
        """The time that was agreed on last; the other ranks are not asked."""
        return self._now_ns

    def read(self) -> int:
        """The time of this rank's clock."""
        return self._own.now_ns()

    def agree(self, time_ns: int) -> None:
        """Take rank 0's reading for the time."""
        self._now_ns = time_ns

    def sleep_until(self, time_ns: int) -> None:
        """Let rank 0 sleep; the others will wait for it when they schedule."""
        if self._ranks.is_first:
            self._own.sleep_until(time_ns)


class SharedScheduler(Scheduler):
    """A scheduler that is one of several alike: they agree on the time, and compare what was asked of them.

    Args:
        cache: the blocks of this rank.
        config: the settings, the same everywhere.
        clock: the time.
        ranks: the ranks.
    """

    def __init__(
        self, cache: BlockManager, config: SchedulerConfig, clock: SharedClock, ranks: Ranks
    ) -> None:
        super().__init__(cache, config, clock)
        self._ranks, self._shared_clock = ranks, clock
        self._asked = 0  # a checksum of all that was asked so far
        self._hear("serve", repr((cache.config, config)))

    def add(self, request: Request) -> RequestState:
        """Let a request wait for its turn; on all ranks, or on none.

        Raises:
            InvariantError: the ranks were not asked for the same.
            Exception: as `Scheduler.add`, on all ranks alike.
        """
        self._hear("add", _words(request))
        self._agree("add a request")
        return super().add(request)

    def abort(self, request_id: RequestId) -> RequestState:
        """End a request, on all ranks; whether it is all of them shows at the next step."""
        self._hear("abort", repr(request_id))
        return super().abort(request_id)

    def schedule(self) -> ScheduledStep:
        """Choose what the next step computes.

        Raises:
            InvariantError: the ranks were not asked for the same.
        """
        self._hear("schedule", "")
        self._agree("schedule a step")
        return super().schedule()

    def _hear(self, what: str, details: str) -> None:
        self._asked = zlib.crc32(f"{what} {details}".encode(), self._asked)

    def _agree(self, doing: str) -> None:
        every = self._ranks.every(doing, self._shared_clock.read(), self._asked)
        others = [rank for rank, (_, asked) in enumerate(every) if asked != every[0][1]]
        if others:
            raise InvariantError(
                f"ranks {', '.join(map(str, others))} were not asked for what rank 0 was, as they {doing}: "
                "every rank has to add and abort the same requests and run the same steps, in the same order"
            )
        self._shared_clock.agree(every[0][0])


class SharedExecutor:
    """Runs steps on this rank's part of a model. Rank 0 samples, and the others take its tokens.

    Args:
        own: runs them on this rank.
        clock: is told when a step was done.
        ranks: the ranks.
    """

    def __init__(self, own: TorchExecutor, clock: SharedClock, ranks: Ranks) -> None:
        self._own, self._clock, self._ranks = own, clock, ranks
        self._sampler = Sampler()

    def execute(self, step: ScheduledStep) -> Sampled:
        """Compute a step, and sample behind it.

        What sampling raises is raised by all ranks, and they stay in step; any other error ends the work of
        this one, and with it that of all.
        """
        with self._ranks.fatal(f"step {step.number}"):
            logits = self._own.packed.forward(step)
            mine = self._sample(logits, step) if self._ranks.is_first else None
        return self._told(mine, step.num_sampled)

    def close(self) -> None:
        """Give back what it holds of the device; the other ranks are not asked."""
        self._own.close()

    def _sample(self, logits: torch.Tensor, step: ScheduledStep) -> Sampled | Exception:
        if not step.num_sampled:
            return Sampled(token_ids=np.empty(0, np.int32))
        try:
            return self._sampler.sample(logits, step)
        except Exception as error:  # noqa: BLE001 - raised by all ranks, when all know of it
            return error

    def _told(self, mine: Sampled | Exception | None, count: int) -> Sampled:
        """What rank 0 has: the time, whether there is more than tokens, the tokens, and then the rest."""
        note = torch.zeros(2 + count, dtype=torch.int64)
        rest: Sampled | PagedKVError | None = None
        if isinstance(mine, Sampled):
            rest = mine if mine.branches or mine.candidates or mine.logprobs else None
            note[2:] = torch.from_numpy(mine.token_ids)
        elif mine is not None:
            rest = portable(mine)
        note[0], note[1] = self._clock.read(), rest is not None
        time_ns, has_rest, *tokens = self._ranks.of_first(note).tolist()
        self._clock.agree(time_ns)
        if has_rest:
            rest = self._ranks.object_of_first(rest)
        if isinstance(mine, Exception):
            raise mine
        if isinstance(rest, PagedKVError):
            raise rest
        return rest if rest is not None else Sampled(token_ids=np.array(tokens, np.int32))


def _words(request: Request) -> str:
    """All that matters of a request; of a long prompt its checksum."""
    prompt = request.prompt
    tokens = (
        (zlib.crc32(prompt.token_ids.tobytes()), prompt.namespace)
        if isinstance(prompt, TokenPrompt)
        else None
    )
    limits = request.max_tokens, request.num_sequences, request.priority, request.stop_token_ids
    return repr((request.request_id, prompt.num_tokens, tokens, limits, request.sampling))

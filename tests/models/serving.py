"""A scheduler over a model, taking the likeliest token: the smallest engine there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pagedkv import BlockManager, CacheConfig
from pagedkv.clock import VirtualClock
from pagedkv.config import SchedulerConfig
from pagedkv.models import PackedModel, make_kv_store
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler.scheduler import Scheduler
from pagedkv.scheduler.state import RequestState
from pagedkv.scheduler.step import ScheduledStep, StepResult

BLOCK_SIZE = 4
LENGTHS = (3, 17, 9, 30, 5, 1, 12)
"""Of the prompts: shorter and longer than blocks, windows and chunks."""


def prompts(lengths: Sequence[int] = LENGTHS, *, seed: int = 1, vocab_size: int = 257) -> list[list[int]]:
    """Random prompts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, vocab_size, (n,), generator=generator).tolist() for n in lengths]


@dataclass
class Serving:
    """A model over a pool, and what has happened.

    Attributes:
        tokens: of the requests that have ended, what each of their sequences generated.
        steps: all steps so far.
        num_cached_tokens: prompt tokens that were found in the cache.
    """

    loaded: Any
    num_blocks: int = 64
    block_size: int = BLOCK_SIZE
    scheduler_config: SchedulerConfig = field(default_factory=SchedulerConfig)
    cache_settings: Mapping[str, Any] = field(default_factory=dict)
    tokens: dict[Any, list[list[int]]] = field(default_factory=dict)
    steps: list[ScheduledStep] = field(default_factory=list)
    num_cached_tokens: int = 0

    def __post_init__(self) -> None:
        config = CacheConfig(num_blocks=self.num_blocks, block_size=self.block_size, **self.cache_settings)
        self.cache = BlockManager(config)
        store = make_kv_store(self.loaded.spec, num_blocks=self.num_blocks, block_size=self.block_size)
        for layer in store.layers.tensors:
            layer.fill_(torch.nan)  # what is read without having been written shows
        self.packed = PackedModel(self.loaded, self.cache, store)
        self.scheduler = Scheduler(self.cache, self.scheduler_config, VirtualClock())

    def add(self, request_id: Any, prompt: Sequence[int], count: int, num_sequences: int = 1) -> None:
        """Ask for so many tokens behind a prompt."""
        self.scheduler.add(
            Request(
                request_id=request_id,
                prompt=TokenPrompt(prompt),
                max_tokens=count,
                num_sequences=num_sequences,
            )
        )

    def step(self) -> list[RequestState]:
        """One step."""
        step = self.scheduler.schedule()
        logits = self.packed.forward(step)
        tokens = logits.argmax(-1).cpu().numpy().astype(np.int32)
        finished = self.scheduler.commit(step, StepResult(token_ids=tokens, branches=_first(step, logits)))
        self.steps.append(step)
        for state in finished:
            self.tokens[state.request_id] = [each.output_ids.tolist() for each in state.finished]
            self.num_cached_tokens += state.num_cached_tokens
        return finished

    def run(self) -> dict[Any, list[list[int]]]:
        """Step until everything has ended; every block must be home then."""
        while self.scheduler.requests:
            self.step()
        self.cache.check_integrity()
        assert self.cache.pool.num_free == self.num_blocks
        return self.tokens


def _first(step: ScheduledStep, logits: torch.Tensor) -> dict[int, list[int]]:
    """Behind the prompt of a request with several sequences, they begin with its likeliest tokens."""
    branches = {}
    for sequence, row in zip(step.sampling(), logits, strict=True):
        count = sequence.request.request.num_sequences
        if count > 1 and sequence.request.num_sequences_begun == 1 and sequence.num_output_tokens == 0:
            branches[sequence.seq_id] = row.topk(count).indices.tolist()
    return branches


def served(loaded: Any, asked: Sequence[Sequence[int]], count: int, **settings: Any) -> list[list[int]]:
    """What comes behind each of some prompts, all asked at once."""
    serving = Serving(loaded, **settings)
    for i, prompt in enumerate(asked):
        serving.add(i, prompt, count)
    tokens = serving.run()
    return [tokens[i][0] for i in range(len(asked))]

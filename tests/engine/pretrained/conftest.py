"""Engines over tiny models of transformers, and what these say by themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine
from tests.models.conftest import folder_of, greedy_of, offline, one_thread

__all__ = ["EngineOf", "folder_of", "greedy_of", "offline", "one_thread", "prompts", "token_ids"]

BLOCK_SIZE = 4
LENGTHS = (3, 17, 9, 30, 5, 1, 12)


class EngineOf(Protocol):
    """Makes engines."""

    def __call__(
        self,
        name: str | Path,
        *,
        num_blocks: int = 128,
        cache: dict[str, Any] | None = None,
        **scheduler: Any,
    ) -> Engine:
        """An engine for an architecture, or a folder; the keywords are settings of the scheduler."""


def prompts(lengths: Sequence[int] = LENGTHS, seed: int = 1) -> list[list[int]]:
    """Random prompts of these lengths, shorter and longer than blocks, windows and chunks."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 250, (length,), generator=generator).tolist() for length in lengths]


def token_ids(outputs: Sequence[Any]) -> list[list[list[int]]]:
    """Of each request, the tokens of each completion."""
    return [[list(each.token_ids) for each in output.outputs] for output in outputs]


@pytest.fixture
def engine_of(folder_of: Callable[[str], Path]) -> EngineOf:
    """Engines whose blocks hold NaN where nothing was written: what is read without that shows."""

    def make(
        name: str | Path, *, num_blocks: int = 128, cache: dict[str, Any] | None = None, **scheduler: Any
    ) -> Engine:
        engine = Engine.from_pretrained(
            name if isinstance(name, Path) else folder_of(name),
            cache=CacheConfig(num_blocks=num_blocks, block_size=BLOCK_SIZE, **(cache or {})),
            scheduler=SchedulerConfig(**scheduler),
            device="cpu",
            clock=VirtualClock(),
        )
        for layer in engine._executor.packed.store.layers.tensors:
            layer.fill_(float("nan"))
        return engine

    return make

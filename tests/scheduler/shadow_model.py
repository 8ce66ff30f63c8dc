"""A model that remembers which tokens the KV of a slot was computed from, and checks what steps read."""

from collections.abc import Callable

import numpy as np

from pagedkv.scheduler import ScheduledStep, Scheduler, SequenceState, StepResult

__all__ = ["Prefix", "ShadowModel", "drain"]

Prefix = tuple[int, ...]
Choose = Callable[[SequenceState], int]


class ShadowModel:
    """Computes a step on shadow memory: the KV of a token is the prefix that ends with it.

    Every token of a step looks at all tokens before it through the block table, as attention does, and they
    have to be the right ones.

    Attributes:
        slots: what each slot of the device was computed from; None if nothing was.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._cache = scheduler.cache
        config = self._cache.config
        self._size = config.block_size
        self.slots: list[Prefix | None] = [None] * (config.num_blocks * config.block_size)

    def run(self, step: ScheduledStep) -> None:
        """Copy, write, and then look."""
        for source, target in step.copies:
            self.slots[target * self._size : (target + 1) * self._size] = self.slots[
                source * self._size : (source + 1) * self._size
            ]
        reads: list[tuple[list[int], Prefix]] = []
        for at, sequence in enumerate(step.decodes.sequences):
            position = int(step.decodes.positions[at])
            tokens = tuple(sequence.token_ids(0, position + 1).tolist())
            assert int(step.decodes.token_ids[at]) == tokens[-1]
            assert len(tokens) == sequence.num_tokens
            slots = self._row_slots(int(step.decodes.rows[at]), position + 1)
            assert int(step.decodes.slot_mapping[at]) == slots[-1]
            self.slots[slots[-1]] = tokens
            reads.append((slots, tokens))
        for sequence, start, stop, _, row in step.chunks:
            tokens = tuple(sequence.token_ids(0, stop).tolist())
            slots = self._row_slots(row, stop)
            for position in range(start, stop):
                self.slots[slots[position]] = tokens[: position + 1]
            reads.append((slots, tokens))
        for slots, tokens in reads:
            for position, slot in enumerate(slots):
                assert self.slots[slot] == tokens[: position + 1], f"slot {slot} at position {position}"

    def _row_slots(self, row: int, num_tokens: int) -> list[int]:
        blocks = self._cache.block_tables[row].tolist()
        return [blocks[p // self._size] * self._size + p % self._size for p in range(num_tokens)]


def drain(scheduler: Scheduler, model: ShadowModel, choose: Choose = lambda _: 1, most: int = 10_000) -> int:
    """Run steps until nothing is live; returns how many."""
    for number in range(most):
        if not scheduler.requests:
            return number
        step = scheduler.schedule()
        if step:
            model.run(step)
            tokens = [choose(each) for each in step.sampling()]
            scheduler.commit(step, StepResult(token_ids=np.array(tokens, np.int32)))
            scheduler.cache.check_integrity()
    raise AssertionError(f"{len(scheduler.requests)} requests are live after {most} steps")

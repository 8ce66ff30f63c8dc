"""Steps in flight: references that outlive their sequence because a running step still reads the blocks."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from pagedkv.block_ids import Int64s
from pagedkv.block_manager.sequence_table import SequenceTable
from pagedkv.block_pool import BlockPool
from pagedkv.errors import InvalidRequest

__all__ = ["StepsInFlight"]


class StepsInFlight:
    """Gives references back to the pool, at once or when the step that reads the blocks is retired.

    It is the reference that waits, not the block: another owner who lets go in the meantime does not free it.
    """

    def __init__(self, pool: BlockPool, sequences: SequenceTable) -> None:
        self._pool = pool
        self._sequences = sequences
        self._begun = 0
        self._retired = 0
        self._waiting: list[tuple[int, Int64s]] = []  # (last step that reads them, blocks), by step
        self._num_waiting: Counter[int] = Counter()  # the same by block

    def begin(self, seq_ids: Sequence[int]) -> int:
        """A step that reads these sequences' blocks is now in flight; returns its number."""
        rows = self._sequences.rows_of(seq_ids)
        self._begun += 1
        self._sequences.last_step[rows] = self._begun
        return self._begun

    def retire(self, step: int) -> None:
        """A step is done, and with it every earlier one."""
        if not isinstance(step, int) or not self._retired < step <= self._begun:
            flight = (
                f"steps {self._retired + 1} to {self._begun} are"
                if self._retired < self._begun
                else "none is"
            )
            raise InvalidRequest(f"step {step!r} is not in flight; {flight}")
        self._retired = step
        while self._waiting and self._waiting[0][0] <= step:
            _, blocks = self._waiting.pop(0)
            self._num_waiting -= Counter(blocks.tolist())
            self._pool.free(blocks)

    def give_back(self, row: int, blocks: Int64s) -> bool:
        """Drop a row's references; returns whether they wait for a step."""
        step = int(self._sequences.last_step[row])
        if step <= self._retired:
            self._pool.free(blocks)
            return False
        insort(self._waiting, (step, blocks), key=itemgetter(0))
        self._num_waiting.update(blocks.tolist())
        return True

    @property
    def any_waits(self) -> bool:
        """Whether any reference waits."""
        return bool(self._waiting)

    def num_waiting(self, block: int) -> int:
        """References to a block that wait."""
        return self._num_waiting[block] if self._waiting else 0

    def waiting_blocks(self) -> list[Int64s]:
        """Blocks whose references wait, one vector for each time they were given back."""
        return [blocks for _, blocks in self._waiting]

"""What tells a loop over steps that it would go on for ever."""

from pagedkv.errors import InvariantError
from pagedkv.scheduler.scheduler import Scheduler

__all__ = ["IdleSteps"]

_MOST_IN_A_ROW = 8


class IdleSteps:
    """Counts steps in a row that compute nothing, and behind which nothing is known to come.

    Args:
        scheduler: whose steps they are.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._num_in_a_row = 0

    def stepped(self, *, is_idle: bool) -> None:
        """There was a step.

        Args:
            is_idle: whether it was empty, and there is no time at which the next one may not be.

        Raises:
            InvariantError: there were too many in a row.
        """
        self._num_in_a_row = self._num_in_a_row + 1 if is_idle else 0
        if self._num_in_a_row > _MOST_IN_A_ROW:
            raise InvariantError(
                f"{self._scheduler.num_waiting} requests wait and {self._scheduler.num_running} run, but the "
                f"last {self._num_in_a_row} steps were empty; this is a fault of the scheduler"
            )

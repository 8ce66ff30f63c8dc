"""Random programs for a scheduler: small pools, lengths on and beside block boundaries, aborts."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from pytest_pagedkv.conformance.scheduler.adapter import SchedulerFeature
from pytest_pagedkv.conformance.scheduler.checked import CheckedScheduler
from pytest_pagedkv.conformance.searching import ProgramMachine

__all__ = ["SchedulerMachine"]

_MAX_LIVE = 8

_picks = st.integers(0, _MAX_LIVE - 1)
_priorities = st.integers(0, 2)
_families = st.integers(0, 1)


def _when(is_met: Callable[[CheckedScheduler], object]) -> Callable[[Any], Any]:
    """A rule for such a state."""
    return precondition(lambda machine: not machine.is_over and bool(is_met(machine.checked)))


class SchedulerMachine(ProgramMachine):
    """Requests come, run, and are aborted, also between a step's schedule and its commit."""

    checked: CheckedScheduler

    @initialize(
        num_blocks=st.integers(1, 8),
        size=st.integers(0, 7),
        token_budget=st.sampled_from((1, 2, 3, 5, 8, 16)),
        max_running=st.sampled_from((4, 3, 2, 1)),
    )
    def make(self, num_blocks: int, size: int, token_budget: int, max_running: int) -> None:
        """Make a scheduler."""
        self.next_id = 0
        self.block_size = self.adapter.block_sizes[size % len(self.adapter.block_sizes)]
        made = self.run(
            lambda: CheckedScheduler(
                self.adapter, num_blocks, self.block_size, token_budget, max_running, self.watch
            )
        )
        if made is not None:
            self.checked = made

    @_when(lambda checked: len(checked.live) < _MAX_LIVE)
    @rule(
        num_blocks=st.integers(0, 4),
        edge=st.sampled_from((1, 0, -1)),
        max_tokens=st.integers(1, 6),
        priority=_priorities,
        family=_families,
    )
    def add(self, num_blocks: int, edge: int, max_tokens: int, priority: int, family: int) -> None:
        """Send a request, with a prompt that ends on, before or behind a block boundary."""
        self._add(num_blocks * self.block_size + edge, max_tokens, priority, family)

    @_when(lambda checked: len(checked.live) <= _MAX_LIVE // 2)
    @rule(
        num_requests=st.integers(2, 4),
        growth=st.integers(1, 3),
        priority=_priorities,
        family=_families,
        num_steps=st.sampled_from((12, 30, 3, 0)),
    )
    def crowd(self, num_requests: int, growth: int, priority: int, family: int, num_steps: int) -> None:
        """Fill the pool with requests that grow, so that some have to give up their blocks."""
        share = self.checked.usable_blocks // num_requests * self.block_size
        for index in range(num_requests):
            self._add(share, growth * self.block_size, priority * index % 3, family * index)
        if self.checked.in_flight is None:
            self._steps(num_steps)

    def _add(self, length: int, max_tokens: int, priority: int, family: int) -> None:
        """Send a request; those of a family have the same prefix."""
        tokens = tuple(100 * family + position for position in range(max(1, length)))
        if SchedulerFeature.PRIORITY not in self.adapter.features:
            priority = 0
        self.run(self.checked.add, self.next_id, tokens, max_tokens, priority)
        self.next_id += 1

    @_when(lambda checked: checked.in_flight is None)
    @rule()
    def schedule(self) -> None:
        """Choose a step."""
        self.run(self.checked.schedule)

    @_when(lambda checked: checked.in_flight is not None)
    @rule()
    def commit(self) -> None:
        """Finish the step."""
        self.run(self.checked.commit)

    @_when(lambda checked: checked.in_flight is None)
    @rule(num_steps=st.integers(1, 4))
    def steps(self, num_steps: int) -> None:
        """Run some steps."""
        self._steps(num_steps)

    def _steps(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.run(self.checked.step)

    @_when(lambda checked: checked.live)
    @rule(pick=_picks)
    def abort(self, pick: int) -> None:
        """Abort a live request."""
        self.run(self.checked.abort, list(self.checked.live)[pick % len(self.checked.live)])

    @_when(lambda checked: checked is not None)
    @rule(pick=_picks)
    def misuse(self, pick: int) -> None:
        """Abort what is not live, or send a live id again."""
        if pick < len(self.checked.live):
            self.run(self.checked.add, list(self.checked.live)[pick], (0,), 1)
        else:
            self.run(self.checked.abort, self.next_id - pick)

    def teardown(self) -> None:
        """Everything that is live finishes, and everything comes home."""
        if hasattr(self, "checked"):
            self.run(self.checked.close)

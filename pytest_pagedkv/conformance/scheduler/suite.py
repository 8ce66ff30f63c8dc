"""The suite: subclass it, and name the adapter."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from pytest_pagedkv.adapter import Adapter, KnownFailure
from pytest_pagedkv.conformance.scheduler.adapter import SchedulerAdapter, SchedulerFeature
from pytest_pagedkv.conformance.scheduler.checked import CheckedScheduler
from pytest_pagedkv.conformance.scheduler.programs import SchedulerMachine
from pytest_pagedkv.conformance.searching import check_known, reporting, run_programs
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["SchedulerConformance"]

_STREAM = 100
"""Requests in a stream that could starve another one; several times what the bound of waits grants."""


def _tokens(adapter: type[SchedulerAdapter], num_blocks: int) -> tuple[int, ...]:
    """A prompt of so many blocks, less the token that makes it so many with one generated."""
    return (0,) * (num_blocks * adapter.block_sizes[-1] - 1)


def _need(adapter: type[SchedulerAdapter], feature: SchedulerFeature) -> None:
    if feature not in adapter.features:
        pytest.skip(f"{adapter.__name__} has no {feature.name}")


class SchedulerConformance:
    """Tests of a scheduler on a virtual clock.

    Subclass it in a test file, `class TestMine(SchedulerConformance): adapter = MyScheduler`, or give the
    adapter on the command line. How many programs are tried follows the Hypothesis profile.

    Attributes:
        adapter_type: what an adapter has to be.
        adapter: the scheduler that is tested; None for that of --pagedkv-adapter.
        call_limit_s: how long a call may take, on the clock.
        case_share: share of the profile's random programs that are tried.
    """

    adapter_type: ClassVar[type[Adapter]] = SchedulerAdapter
    adapter: ClassVar[type[SchedulerAdapter] | None] = None
    call_limit_s: ClassVar[float] = 10.0
    case_share: ClassVar[float] = 1.0

    def test_random_programs(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """Whatever comes, runs and is aborted in whatever order: what was taken finishes."""
        with reporting(pagedkv_adapter):
            run_programs(SchedulerMachine, pagedkv_adapter, Watch(self.call_limit_s), self.case_share)

    def test_one_that_can_never_run(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """A request that exceeds the pool is refused, and the next one runs."""
        with self._checked(pagedkv_adapter, 8) as checked:
            checked.add(0, (1,), 4)
            checked.add(1, _tokens(pagedkv_adapter, 9), 1)
            checked.add(2, (2,), 4)
            checked.close()

    @pytest.mark.parametrize(("waiting", "stream"), [(5, 1), (1, 5)], ids=["large", "small"])
    def test_no_starvation(self, pagedkv_adapter: type[SchedulerAdapter], waiting: int, stream: int) -> None:
        """A large request gets its turn beside a stream of small ones, and a small one beside large ones."""
        _need(pagedkv_adapter, SchedulerFeature.FAIR)
        with self._checked(pagedkv_adapter, 7) as checked:
            for request_id in range(1, _STREAM):
                checked.add(request_id, _tokens(pagedkv_adapter, stream), 4)
                if request_id == 5:  # the stream fills the pool by now
                    checked.add(0, _tokens(pagedkv_adapter, waiting), 1)
                checked.step()
            checked.close()

    def test_urgent_first(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """An urgent request does not wait for a stream of less urgent ones that come after it."""
        _need(pagedkv_adapter, SchedulerFeature.PRIORITY)
        with self._checked(pagedkv_adapter, 7) as checked:
            for request_id in range(1, _STREAM):
                checked.add(request_id, _tokens(pagedkv_adapter, 2), 4, 2)
                if request_id == 5:
                    checked.add(0, _tokens(pagedkv_adapter, 3), 1, 1)
                checked.step()
            checked.close()

    def test_long_prompt(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """A prompt that does not fit beside others is not begun and preempted again and again."""
        _need(pagedkv_adapter, SchedulerFeature.CHUNKED_PREFILL)
        size = pagedkv_adapter.block_sizes[-1]
        with self._checked(pagedkv_adapter, 16 + pagedkv_adapter.max_overhead_blocks, 4) as checked:
            for request_id in range(2):
                checked.add(request_id, (request_id,) * size, 6 * size)
            checked.add(2, _tokens(pagedkv_adapter, 15), 1)
            checked.close()

    def test_tiny_pool(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """Requests that grow to the whole pool, each of them, all finish."""
        overhead, size = pagedkv_adapter.max_overhead_blocks, pagedkv_adapter.block_sizes[-1]
        with self._checked(pagedkv_adapter, 4 + overhead) as checked:
            max_tokens = (checked.usable_blocks - overhead - 1) * size
            for request_id in range(4):
                checked.add(request_id, (request_id,) * size, max_tokens)
            checked.close()

    @pytest.mark.parametrize("between", [False, True], ids=["before_schedule", "before_commit"])
    def test_abort_at_every_point(self, pagedkv_adapter: type[SchedulerAdapter], between: bool) -> None:
        """Whenever one of some requests is aborted, its blocks come back and the others finish."""
        for num_steps in range(12):
            for aborted in range(3):
                self._abort(pagedkv_adapter, num_steps, aborted, between)

    def _abort(self, adapter: type[SchedulerAdapter], num_steps: int, aborted: int, between: bool) -> None:
        with self._checked(adapter, 6) as checked:
            for request_id in range(3):
                checked.add(request_id, _tokens(adapter, 1 + request_id), 3)
            for _ in range(num_steps):
                checked.step()
            if between:
                checked.schedule()
            if aborted in checked.live:
                checked.abort(aborted)
            checked.close()

    def test_known_failures(self, pagedkv_adapter: type[SchedulerAdapter]) -> None:
        """Every known failure is still there; a note about one that is gone has to go too."""

        def run(known: KnownFailure) -> None:
            watch, most = Watch(self.call_limit_s), known.num_blocks * known.block_size
            with watch.running():
                checked = CheckedScheduler(
                    pagedkv_adapter, known.num_blocks, known.block_size, most, 4, watch
                )
                for name, *arguments in known.program:
                    getattr(checked, name)(*arguments)

        check_known(pagedkv_adapter, run)

    @contextmanager
    def _checked(
        self, adapter: type[SchedulerAdapter], num_blocks: int, budget_blocks: int = 0
    ) -> Iterator[CheckedScheduler]:
        """A scheduler whose pool, and the tokens of a step, are so many blocks of the largest size."""
        watch, size = Watch(self.call_limit_s), adapter.block_sizes[-1]
        with reporting(adapter), watch.running():
            yield CheckedScheduler(adapter, num_blocks, size, (budget_blocks or num_blocks) * size, 4, watch)

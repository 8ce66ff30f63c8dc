"""Bugs that were found once, each with the shortest program that shows it."""

from collections.abc import Callable

import numpy as np
import pytest

from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.events import (
    BatchLimited,
    RequestPreempted,
    RequestPromoted,
    RequestStarted,
    StepCommitted,
    StepScheduled,
)
from pagedkv.logs import SchedulerLog
from pagedkv.request import KeyPrompt, Request, TokenPrompt
from pagedkv.scheduler import StepResult
from tests.scheduler.conftest import MS, Served, began

Serve = Callable[..., Served]


def test_a_prompt_that_the_cache_cannot_take_is_refused(serve: Serve) -> None:
    """It was taken, and every step raised then, after it had made the decoding sequences longer."""
    with pytest.raises(ConfigError, match=r"request 1 has a KeyPrompt.*prefix_keys='tokens'"):
        serve().scheduler.add(Request(request_id=1, prompt=KeyPrompt(8, ["a", "b"]), max_tokens=1))
    served = serve(prefix_caching=True, prefix_keys="ids")
    with pytest.raises(ConfigError, match=r"request 1 has a TokenPrompt.*prefix_keys='ids'"):
        served.add(1)
    for ids in ([3, 3], [None, 4], [[], 4]):
        with pytest.raises(InvalidRequest, match="block ids"):
            KeyPrompt(40, ids)
    assert not served.scheduler.requests


def test_a_step_that_cannot_be_scheduled_leaves_nothing_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised inside: all wait again, and end with the tokens that they would have had."""
    served = serve()
    request = served.add(1, max_tokens=4)
    served.step(tokens=[5])
    served.add(2)
    with monkeypatch.context() as patch:
        patch.setattr(TokenPrompt, "admit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            served.scheduler.schedule()
    assert served.free() == 64
    step = served.step(tokens=[6, 7])
    assert [(c.start, c.stop) for c in step.chunks] == [(0, 5), (0, 4)]
    served.drain()
    assert request.finished[0].output_ids.tolist()[:2] == [5, 6]


@pytest.mark.parametrize("policy", ["lifo", "priority"])
def test_who_runs_has_its_part_in_every_step(serve: Serve, policy: str) -> None:
    """A group was left out of steps for ever that newcomers filled: now what runs fits a step."""
    served = serve(policy=policy, max_batch_tokens=4, max_running=10, max_wait_ms=20.0)
    group = served.add(0, max_tokens=8, num_sequences=2, priority=1)
    served.step(branches={group.sequences[0].seq_id: [1, 1]})
    for request_id in range(1, 8):
        newcomer = served.add(request_id, max_tokens=3, num_sequences=3)
        step = served.scheduler.schedule()
        served.clock.advance(MS)
        branches = {c.sequence.seq_id: [1, 1, 1] for c in step.chunks if c.samples}
        tokens = np.zeros(step.num_sampled, np.int32)
        served.scheduler.commit(step, StepResult(token_ids=tokens, branches=branches))
        assert newcomer.first_token_ns is None or group.finished_ns is not None
    assert group.finished_ns == 8 * MS


@pytest.mark.parametrize("policy", ["lifo", "priority"])
def test_who_loses_its_blocks_again_and_again_goes_first_at_last(serve: Serve, policy: str) -> None:
    """Each preemption began its wait anew, so that it was never promoted."""
    served = serve(policy=policy, num_blocks=16, max_wait_ms=50.0, max_chunk_tokens=4)
    victim = served.add(0, num_tokens=50, max_tokens=4, priority=1)
    for request_id in range(1, 300):
        if victim.finished_ns is not None:
            break
        served.add(request_id, num_tokens=4, max_tokens=16)
        served.step()
    assert victim.finished_ns is not None
    assert victim.num_preemptions <= 3


def test_an_abort_in_flight_takes_no_first_token_time_from_others(serve: Serve) -> None:
    """Five prompts in one step, one aborted: the other four have got their first tokens."""
    served = serve()
    requests = [served.add(i) for i in range(5)]
    step = served.scheduler.schedule()
    served.scheduler.abort(2)
    served.clock.advance(MS)
    served.scheduler.commit(step, StepResult(token_ids=np.zeros(5, np.int32)))
    assert [r.first_token_ns for r in requests] == [MS, MS, None, MS, MS]
    assert served.of(StepCommitted)[0].first_token_ns.tolist() == [MS] * 4


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"branches": {0: []}}, "would go on with 0 sequences; it asked for 2"),
        ({"branches": {0: [1] * 7}}, "would go on with 7 sequences; it asked for 2"),
        ({"branches": {0: [2**40]}}, "not an int that fits int32"),
        ({"ended": {0: "banana"}}, "sequences end for {'banana'}"),
        ({"token_ids": np.array([2**33 + 5])}, "token ids must fit int32"),
    ],
)
def test_results_that_no_step_can_bring_are_refused(serve: Serve, result: object, message: str) -> None:
    """They left requests that never ended, or a step that could be neither committed nor failed."""
    served = serve()
    served.add(1, num_sequences=2)
    step = served.scheduler.schedule()
    assert isinstance(result, dict)
    with pytest.raises(InvalidRequest, match=message):
        served.scheduler.commit(step, StepResult(**{"token_ids": np.zeros(1, np.int32), **result}))
    good = StepResult(token_ids=np.zeros(1, np.int32), branches={0: [1, 2]})
    served.scheduler.commit(step, good)
    served.drain()


def test_those_that_end_give_their_blocks_to_forks_of_the_same_step(serve: Serve) -> None:
    """An eager fork preempted a request that ended in the same commit."""
    served = serve(num_blocks=4, fork_mode="eager", watermark_ratio=0.0)
    ending = served.add(1, num_tokens=5, max_tokens=1)
    group = served.add(2, num_tokens=6, max_tokens=2, num_sequences=2)
    served.step()
    assert group.first_token_ns is None
    step = served.scheduler.schedule()
    assert ending.finished_ns is not None
    branches = {c.sequence.seq_id: [3, 4] for c in step.chunks}
    served.scheduler.commit(step, StepResult(token_ids=np.zeros(1, np.int32), branches=branches))
    assert not served.of(RequestPreempted)
    served.drain()


def test_memory_of_tokens_is_for_those_that_have_begun(serve: Serve) -> None:
    """Ten thousand waiting requests had a row each, as long as the longest answer."""
    served = serve(max_running=2)
    for request_id in range(1000):
        served.add(request_id, max_tokens=200)
    for _ in range(150):
        served.step()
    assert served.scheduler._table._outputs.shape[0] == 64


def test_many_stop_tokens_end_sequences_too(serve: Serve) -> None:
    """More of them than the table has columns, beside a request that has few."""
    served = serve()
    many = served.add(1, max_tokens=9, stop_token_ids=range(100, 200))
    few = served.add(2, max_tokens=9, stop_token_ids=(150,))
    served.step(tokens=[1, 1])
    served.step(tokens=[150, 151])
    assert many.finished[0].finish_reason == "stop"
    served.step(tokens=[150])
    assert few.finished[0].output_ids.tolist() == [1, 151, 150]
    with pytest.raises(InvalidRequest, match="fits int32"):
        served.add(3, stop_token_ids=(2**40,))


def test_the_adaptive_limit_begins_with_what_runs(serve: Serve) -> None:
    """Its average began at nothing, so the first preemption cut the batch to a ninth."""
    served = serve(num_blocks=48, max_running=40, adaptive_batch_size=True, watermark_ratio=0.0)
    for request_id in range(40):
        served.add(request_id, num_tokens=4, max_tokens=8)
    served.drain()
    assert served.of(BatchLimited)[0].new_limit >= 20


def test_empty_steps_and_failures_do_not_move_the_adaptive_limit(serve: Serve) -> None:
    """Polls raised it, and a failed step, which says nothing about blocks, brought it down."""
    served = serve(adaptive_batch_size=True)
    served.add(1)
    served.step()
    served.scheduler.fail(served.scheduler.schedule())
    served.step()
    assert not served.of(BatchLimited)


def test_polls_are_no_collapse(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that polls while the merge window holds requests was told of a collapse."""
    served = serve(batch_merge_window_ms=5.0)
    served.scheduler.events.attach(SchedulerLog())
    with caplog.at_level("INFO", logger="pagedkv"):
        for request_id in range(60):
            served.add(request_id, max_tokens=1)
            served.step()
    assert not caplog.records


def test_nobody_is_waited_for_when_nothing_waits(serve: Serve) -> None:
    """The step after whoever the merge window held was aborted still said when the window opens."""
    served = serve(batch_merge_window_ms=5.0)
    served.add(1)
    assert served.step().wake_ns == 5 * MS
    served.scheduler.abort(1)
    assert served.step().wake_ns is None


def test_what_a_group_writes_first_is_counted_when_it_is_admitted(serve: Serve) -> None:
    """Only its prompt was: groups were begun, branched, and lost their blocks at once."""
    served = serve(num_blocks=16, block_size=4, watermark_ratio=0.0)
    for request_id in range(4):
        served.add(request_id, num_tokens=6, max_tokens=3, num_sequences=4)
    while served.scheduler.requests:
        step = served.scheduler.schedule()
        branches = {c.sequence.seq_id: [1] * 4 for c in step.chunks if c.samples}
        tokens = np.zeros(step.num_sampled, np.int32)
        served.scheduler.commit(step, StepResult(token_ids=tokens, branches=branches))
    assert not served.of(RequestPreempted)
    assert {e.num_tokens for e in served.of(RequestStarted)} == {6}


def test_samples_of_one_token_share_everything(serve: Serve) -> None:
    """Eight samples of one token never part, and were refused as if they did."""
    served = serve(num_blocks=2)
    root = served.add(1, num_tokens=5, max_tokens=1, num_sequences=8).sequences[0]
    served.step(branches={root.seq_id: list(range(8))})
    assert not served.scheduler.requests
    assert served.of(StepCommitted)[0].num_sampled == 8


def test_a_failed_step_loses_only_what_was_computed(serve: Serve) -> None:
    """The tokens of the failed step itself were counted, too."""
    served = serve()
    served.add(1, num_tokens=12)
    served.scheduler.fail(served.scheduler.schedule())
    served.step()
    served.scheduler.fail(served.scheduler.schedule())
    assert [e.num_lost_tokens for e in served.of(RequestPreempted)] == [0, 12]


def test_waits_count_from_the_arrival(serve: Serve) -> None:
    """Who came during a step waited from the end of that step only."""
    served = serve(max_wait_ms=50.0, policy="lifo", max_running=1)
    served.clock.advance(100 * MS)
    prompt = TokenPrompt([1])
    served.scheduler.add(Request(request_id=1, prompt=prompt, max_tokens=1, arrival_ns=0))
    served.add(2)
    assert began(served.step()) == [1]
    assert served.of(RequestPromoted)[0].wait_ns == 100 * MS
    assert served.of(RequestStarted)[0].wait_ns == 100 * MS
    assert served.of(StepScheduled)[0].longest_wait_ns == 0

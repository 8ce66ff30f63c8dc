"""What the scheduler does, step by step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pagedkv.errors import DuplicateRequest, InvalidRequest, RequestRefused, UnknownRequest
from pagedkv.events import RequestFinished, RequestHeld, RequestPreempted, RequestStarted, StepCommitted
from pagedkv.request import KeyPrompt, Request, TokenPrompt
from pagedkv.scheduler import ScheduledStep, Status, StepResult
from tests.scheduler.conftest import MS, Served, began

Serve = Callable[..., Served]


def test_prefill_then_decode(serve: Serve) -> None:
    """A prompt is computed whole, then one token a step, until it has its tokens."""
    served = serve()
    request = served.add(7, num_tokens=5, max_tokens=3)
    first = served.step(tokens=[41])
    assert [(c.start, c.stop, c.samples) for c in first.chunks] == [(0, 5, True)]
    second = served.step(tokens=[42])
    assert second.decodes.token_ids.tolist() == [41]
    assert second.decodes.positions.tolist() == [5]
    served.step(tokens=[43])
    assert request.status is Status.FINISHED
    assert [(s.output_ids.tolist(), s.finish_reason) for s in request.finished] == [([41, 42, 43], "length")]
    assert not served.scheduler.requests
    assert served.free() == 64


def test_long_prompts_are_computed_in_pieces_beside_decoding_ones(serve: Serve) -> None:
    """The budget of a step goes to decoding sequences first, the rest to the prompt."""
    served = serve(max_batch_tokens=6)
    served.add(1, num_tokens=2, max_tokens=9)
    served.step()
    served.add(2, num_tokens=12)
    pieces = [[(c.start, c.stop, c.samples) for c in served.step().chunks] for _ in range(3)]
    assert pieces == [[(0, 5, False)], [(5, 10, False)], [(10, 12, True)]]


def test_pieces_have_a_size_of_their_own(serve: Serve) -> None:
    """max_chunk_tokens bounds the piece of each request."""
    served = serve(max_chunk_tokens=3)
    served.add(1, num_tokens=4)
    served.add(2, num_tokens=8)
    assert [(c.start, c.stop) for c in served.step().chunks] == [(0, 3), (0, 3)]
    assert [(c.start, c.stop) for c in served.step().chunks] == [(3, 4), (3, 6)]


def test_without_pieces_a_prompt_waits_for_a_step_of_its_own(serve: Serve) -> None:
    """With chunked_prefill off a prompt runs whole, or not yet; one that never fits is refused."""
    served = serve(max_batch_tokens=8, chunked_prefill=False)
    served.add(1, num_tokens=5, max_tokens=2)
    served.add(2, num_tokens=5, max_tokens=2)
    assert began(served.step()) == [1]
    assert began(served.step()) == [2]
    with pytest.raises(RequestRefused, match=r"9 prompt tokens.*max_batch_tokens, 8") as refused:
        served.add(3, num_tokens=9)
    assert (refused.value.needed, refused.value.available, refused.value.unit) == (12, 8, "tokens")


def test_what_never_fits_is_refused_with_the_numbers(serve: Serve) -> None:
    """Blocks of all sequences count, the shared full blocks of the prompt once."""
    served = serve(num_blocks=8)
    with pytest.raises(RequestRefused, match="takes 9 blocks of 4, and the pool has 8") as refused:
        served.add(1, num_tokens=6, max_tokens=7, num_sequences=4)
    assert (refused.value.needed, refused.value.available, refused.value.unit) == (9, 8, "blocks")
    served.add(1, num_tokens=6, max_tokens=7, num_sequences=3)
    with pytest.raises(RequestRefused, match="300 sequences at once, and a step has at most 256"):
        served.add(2, num_sequences=300)
    with pytest.raises(DuplicateRequest, match="request 1 is live already"):
        served.add(1)
    assert list(served.scheduler.requests) == [1]


def test_stop_tokens_end_a_sequence(serve: Serve) -> None:
    """The stop token is the last one that it has."""
    served = serve()
    request = served.add(1, max_tokens=9, stop_token_ids=(50, 60))
    served.step(tokens=[1])
    served.step(tokens=[60])
    assert [(s.output_ids.tolist(), s.finish_reason) for s in request.finished] == [([1, 60], "stop")]


def test_reasons_from_outside(serve: Serve) -> None:
    """Whoever reads the text can end a sequence with the token that it got."""
    served = serve()
    request = served.add(1, max_tokens=9)
    served.step()
    served.step(tokens=[5], ended={request.sequences[0].seq_id: "stop"})
    assert [(s.output_ids.tolist(), s.finish_reason) for s in request.finished] == [([0, 5], "stop")]


def test_samples_share_the_prompt_and_copy_when_they_write(serve: Serve) -> None:
    """Three samples of a prompt with a begun block: two of them copy it, the last writes in place."""
    served = serve()
    request = served.add(1, num_tokens=6, max_tokens=3, num_sequences=3)
    (root,) = request.sequences
    served.step(branches={root.seq_id: [10, 11, 12]})
    assert [s.output_ids.tolist() for s in request.sequences] == [[10], [11], [12]]
    assert 64 - served.free() == 2
    step = served.step(tokens=[20, 21, 22])
    assert len(step.copies) == 2
    assert step.decodes.token_ids.tolist() == [10, 11, 12]
    assert 64 - served.free() == 1 + 3


def test_beams_are_given_up_and_branch(serve: Serve) -> None:
    """The survivors keep their places, new ones stand behind them in the order of their parents."""
    served = serve()
    request = served.add(1, num_tokens=4, max_tokens=4, num_sequences=3)
    root = request.sequences[0].seq_id
    served.step(branches={root: [1, 2, 3]})
    first, second, third = [each.seq_id for each in request.sequences]
    served.step(branches={first: [], second: [7, 8], third: [9]})
    assert [s.output_ids.tolist() for s in request.sequences] == [[2, 7], [3, 9], [2, 8]]
    assert [s.seq_id for s in request.sequences[:2]] == [second, third]
    served.drain()
    assert len(request.finished) == 3
    assert served.free() == 64


@pytest.mark.parametrize("fork_mode", ["lazy", "eager", "full_blocks"])
def test_a_group_that_lost_its_blocks_regroups(serve: Serve, fork_mode: str) -> None:
    """Its prompt is computed once more, its sequences share it again, and all decode in the same step."""
    served = serve(num_blocks=9, fork_mode=fork_mode, watermark_ratio=0.0)
    served.add(1, num_tokens=8, max_tokens=17)
    group = served.add(2, num_tokens=6, max_tokens=8, num_sequences=2)
    served.step(branches={group.sequences[0].seq_id: [1, 2]})
    while not group.num_preemptions:
        served.step()
    outputs = [s.output_ids.tolist() for s in group.sequences]
    served.drain()
    ended = [s.output_ids.tolist() for s in group.finished]
    assert [new[: len(old)] for new, old in zip(ended, outputs, strict=True)] == outputs
    assert [s.num_output_tokens for s in group.finished] == [8, 8]
    assert served.free() == 9


def test_the_last_in_line_gives_up_its_blocks(serve: Serve) -> None:
    """The event says who, what for, why, and what was lost; nobody begins it again before another ends."""
    served = serve(num_blocks=6)
    early, late = served.add(1, max_tokens=16), served.add(2, max_tokens=16)
    served.drain()
    (event,) = served.of(RequestPreempted)
    assert (event.request_id, event.needed_by) == (2, None)
    assert event.reason == "2 blocks needed, 0 free; fcfs: it came last"
    assert (event.num_free_before, event.num_free_after, event.num_lost_tokens) == (0, 3, 12)
    assert (late.num_preemptions, late.num_lost_tokens) == (1, 12)
    restart = [e for e in served.of(RequestStarted) if e.is_resumed]
    assert [e.request_id for e in restart] == [2]
    assert early.finished_ns is not None
    assert late.finished_ns is not None
    assert served.told.index(restart[0]) > served.told.index(served.of(RequestFinished)[0])


def test_blocks_that_a_prompt_has_are_not_kept_for_it_again(serve: Serve) -> None:
    """Four prompts of two blocks begin in one step of a pool of eight."""
    served = serve(num_blocks=8, watermark_ratio=0.0)
    for request_id in range(4):
        served.add(request_id, num_tokens=8, max_tokens=1)
    assert began(served.step()) == [0, 1, 2, 3]


def test_blocks_of_a_prompt_in_pieces_are_kept_for_it(serve: Serve) -> None:
    """While a long prompt is computed nobody else gets the blocks that it is going to need."""
    served = serve(num_blocks=8, max_batch_tokens=8, max_chunk_tokens=4)
    served.add(1, num_tokens=20, max_tokens=8)
    served.add(2, num_tokens=16, max_tokens=1)
    assert began(served.step()) == [1]
    served.drain()
    assert not served.of(RequestPreempted)


def test_a_request_in_flight_keeps_its_blocks_until_the_step_is_done(serve: Serve) -> None:
    """After an abort between schedule and commit the blocks wait, and the token is dropped."""
    served = serve()
    served.add(1, num_tokens=8)
    served.add(2, num_tokens=4, max_tokens=2)
    step = served.scheduler.schedule()
    aborted = served.scheduler.abort(1)
    assert 64 - served.free() == 3
    assert served.scheduler.cache.num_deferred_blocks == 2
    assert [s.finish_reason for s in aborted.finished] == ["abort"]
    served.add(3)  # may take the row of the one that is gone
    served.scheduler.commit(step, StepResult(token_ids=np.array([8, 9], np.int32)))
    assert 64 - served.free() == 1
    assert served.scheduler.requests[2].sequences[0].output_ids.tolist() == [9]
    assert served.scheduler.requests[3].sequences[0].num_output_tokens == 0
    with pytest.raises(UnknownRequest, match="request 1 is not live"):
        served.scheduler.abort(1)


def test_a_failed_step_loses_nothing(serve: Serve) -> None:
    """All wait again with their tokens, no cached prefix is trusted, and everybody ends."""
    served = serve(prefix_caching=True)
    requests = [served.add(i, num_tokens=9, max_tokens=5) for i in range(3)]
    served.step(tokens=[1, 2, 3])
    step = served.scheduler.schedule()
    served.scheduler.fail(step)
    assert served.free() == 64
    assert served.scheduler.cache.num_cached_blocks == 0
    again = served.step(tokens=[4, 5, 6])
    assert [c.start for c in again.chunks] == [0, 0, 0]
    served.drain()
    assert [r.finished[0].output_ids.tolist()[:2] for r in requests] == [[1, 4], [2, 5], [3, 6]]


def test_steps_are_taken_once_and_as_they_are(serve: Serve) -> None:
    """A result has to fit the step in flight; what does not changes nothing."""
    served = serve()
    served.add(1)
    step = served.scheduler.schedule()
    with pytest.raises(InvalidRequest, match="is in flight: commit it, or fail it"):
        served.scheduler.schedule()
    with pytest.raises(InvalidRequest, match="samples 1 tokens, the result has 2"):
        served.scheduler.commit(step, StepResult(token_ids=np.zeros(2, np.int32)))
    with pytest.raises(InvalidRequest, match="does not sample"):
        served.scheduler.commit(step, StepResult(token_ids=np.zeros(1, np.int32), branches={99: [1]}))
    with pytest.raises(InvalidRequest, match="step 0 is not in flight; step 1 is"):
        served.scheduler.commit(ScheduledStep(), StepResult(token_ids=np.zeros(0, np.int32)))
    served.scheduler.commit(step, StepResult(token_ids=np.zeros(1, np.int32)))
    with pytest.raises(InvalidRequest, match="none is"):
        served.scheduler.fail(step)


def test_nothing_to_do_is_an_empty_step(serve: Serve) -> None:
    """It is false, and nothing is in flight behind it."""
    served = serve()
    assert not served.scheduler.schedule()
    assert served.scheduler.in_flight is None
    assert not served.scheduler.schedule()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"num_sequences": 0}, "num_sequences is 0"),
        ({"priority": "high"}, "priority is 'high'"),
    ],
)
def test_requests_are_checked(fields: dict[str, Any], message: str) -> None:
    """A request that makes no sense cannot be made."""
    good = {"request_id": 1, "prompt": TokenPrompt([1]), "max_tokens": 1}
    with pytest.raises(InvalidRequest, match=message):
        Request(**{**good, **fields})


def test_prompts_are_checked() -> None:
    """A prompt has a token at least."""
    with pytest.raises(InvalidRequest, match="the prompt is empty"):
        TokenPrompt([])
    with pytest.raises(InvalidRequest, match="the prompt has 0 tokens"):
        KeyPrompt(0)


def test_prompts_by_ids_hit_and_are_computed_in_pieces(serve: Serve) -> None:
    """A trace's block ids stand for tokens: what one request has computed the next one finds."""
    served = serve(prefix_caching=True, prefix_keys="ids", max_batch_tokens=6)
    for request_id in (1, 2):
        served.scheduler.add(
            Request(request_id=request_id, prompt=KeyPrompt(14, ["a", "b", "c", "d"]), max_tokens=1)
        )
    starts = [[(c.start, c.stop) for c in served.step().chunks] for _ in range(4)]
    assert starts == [[(0, 6)], [(6, 12)], [(12, 14), (12, 14)], []]


def test_times_are_told(serve: Serve) -> None:
    """Time to the first token counts from the arrival, the others from the token before."""
    served = serve(max_running=1)
    served.add(1, max_tokens=2)
    served.add(2, max_tokens=1)
    served.drain()
    commits = served.of(StepCommitted)
    assert [e.first_token_ns.tolist() for e in commits] == [[MS], [], [3 * MS]]
    assert [e.gaps_ns.tolist() for e in commits] == [[], [MS], []]
    assert [(e.request_id, e.reason, e.age_ns) for e in served.of(RequestFinished)] == [
        (1, "length", 2 * MS),
        (2, "length", 3 * MS),
    ]


def test_reasons_are_told_to_who_asks(serve: Serve) -> None:
    """With explains on, each request that is held is told with the reason; else none is."""
    served = serve(max_running=1)
    served.add(1)
    served.add(2)
    served.step()
    assert not served.of(RequestHeld)
    served.scheduler.explains = True
    served.step()
    (held,) = served.of(RequestHeld)
    assert (held.request_id, held.reason) == (2, "1 sequences run, 1 more would be above 1")

"""The sampler over whole steps: mixed rows, in any company."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="the sampler works on torch tensors")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import InvalidRequest, ModelError
from pagedkv.sampling import SamplingParams
from pagedkv.sampling.sampled import Sampled
from pagedkv.sampling.sampler import Sampler
from tests.examples import examples
from tests.sampling.steps import Member, step_of

VOCAB = 40
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
GREEDY = SamplingParams(temperature=0)
KINDS = [
    GREEDY,
    SamplingParams(top_k=1, seed=1),
    SamplingParams(temperature=1e-30, seed=1),
    SamplingParams(temperature=0, repetition_penalty=1.6),
    SamplingParams(seed=3),
    SamplingParams(seed=3, temperature=2.5, repetition_penalty=0.6),
    SamplingParams(seed=4, top_k=3),
    SamplingParams(seed=2**64 - 1, top_k=20, top_p=0.5, logprobs=2),
    SamplingParams(seed=5, top_p=0.9, repetition_penalty=1.3),
    SamplingParams(temperature=0, logprobs=0),
    SamplingParams(beam_width=3),
    SamplingParams(beam_width=2, repetition_penalty=1.4, logprobs=1),
    SamplingParams(n=4, seed=6, logprobs=1),
    SamplingParams(n=2, temperature=0),
]


def logits_of(rows: int, seed: int = 0, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random logits."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, VOCAB, generator=generator) * 3).to(dtype)


def member(params: SamplingParams, number: int, num_outputs: int) -> Member:
    """A sequence with tokens of its own."""
    tokens = [(number * 7 + at * at) % VOCAB for at in range(4 + num_outputs)]
    return Member(
        params, tokens[:4], tokens[4:], index=number % 3 if num_outputs else 0, request_id=f"r{number}"
    )


def sample_alone(logits: torch.Tensor, of: Member, *, decodes: bool) -> tuple[Any, ...]:
    """What a sequence gets with nothing beside it."""
    step = step_of([of], []) if decodes else step_of([], [of])
    return at_place(Sampler().sample(logits, step), 0)


def at_place(found: Sampled, place: int) -> tuple[Any, ...]:
    """All that was sampled behind one sequence."""
    more = (found.branches, found.candidates, found.logprobs)
    return int(found.token_ids[place]), *(each.get(place) for each in more)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=examples(120), deadline=None)
@given(
    chosen=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_company_changes_nothing(device: str, chosen: list[tuple[SamplingParams, int]], seed: int) -> None:
    """A sequence gets the same alone as in a batch of any kinds, in any order, decoding or not."""
    members = [member(params, number, outputs) for number, (params, outputs) in enumerate(chosen)]
    decodes = [each for each in members if each.outputs and each.request_id[-1] in "02468"]
    prefills = [each for each in members if each not in decodes]
    logits = logits_of(len(members), seed).to(device)
    together = Sampler().sample(logits, step_of(decodes, prefills))
    assert together.token_ids.dtype == "int32"
    assert together.token_ids.shape == (len(members),)
    for place, each in enumerate([*decodes, *prefills]):
        alone = sample_alone(logits[place : place + 1], each, decodes=each in decodes)
        assert at_place(together, place) == alone
        preempted = sample_alone(logits[place : place + 1], each, decodes=False)
        assert preempted == alone  # its last tokens are computed again, and it gets the same


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("params", KINDS[:3], ids=["temperature 0", "top-k 1", "cold"])
def test_greedy_is_argmax(params: SamplingParams, dtype: torch.dtype, device: str) -> None:
    """The likeliest token, the lowest of those that are as likely."""
    logits = logits_of(50, dtype=dtype).round().to(device)
    assert (logits == logits.amax(-1, keepdim=True)).sum() > 50
    step = step_of([member(params, number, 1) for number in range(50)])
    found = Sampler().sample(logits, step)
    assert found.token_ids.tolist() == logits.argmax(-1).tolist()
    assert at_place(found, 0)[1:] == (None, None, None)


def test_logits_are_not_changed() -> None:
    """They may be the model's own buffer."""
    members = [member(params, number, 2) for number, params in enumerate(KINDS)]
    logits = logits_of(len(members))
    before = logits.clone()
    Sampler().sample(logits, step_of(members))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("params", KINDS, ids=repr)
def test_a_batch_that_stays_is_as_good_as_new(params: SamplingParams) -> None:
    """Step by step, with what is kept from the last one or without."""
    members = [member(params, number, 1 + number) for number in range(3)]
    kept = Sampler()
    for at in range(6):
        logits, step = logits_of(3, at), step_of(members)
        found = kept.sample(logits, step)
        fresh = Sampler().sample(logits, step)
        assert [at_place(found, place) for place in range(3)] == [
            at_place(fresh, place) for place in range(3)
        ]
        for each, token in zip(members, found.token_ids.tolist(), strict=True):
            each.append(token)
        if at == 3:  # a step that was sampled, and then failed, is sampled again
            again = step_of(members)
            for _ in range(2):
                kept.sample(logits, again)


def test_another_batch_gets_its_own_plan() -> None:
    """Members that came, went, or moved; and prefills that end beside a batch that stays."""
    kept = Sampler()
    first = [member(replace(KINDS[8], logprobs=0), 1, 3), member(KINDS[7], 2, 3)]
    logits = logits_of(3)
    for changes, decodes, prefills in (
        (1, first, []),
        (1, first, [member(KINDS[4], 3, 0)]),
        (1, first, [member(KINDS[9], 4, 0)]),
        (2, first[::-1], []),
        (3, first[:1], []),
        (4, first[1:], []),
    ):
        step = step_of(decodes, prefills, changes=changes)
        rows = logits[: step.num_sampled]
        found, fresh = kept.sample(rows, step), Sampler().sample(rows, step)
        for place in range(step.num_sampled):
            assert at_place(found, place) == at_place(fresh, place)


def test_samples_begin_as_they_go_on() -> None:
    """The j-th first token is what the sample with index j would draw; a sample draws on by itself."""
    params = SamplingParams(n=5, seed=8)
    logits = logits_of(1)
    first = Sampler().sample(logits, step_of(prefills=[Member(params)])).branches[0]
    singles = [
        sample_alone(logits, Member(replace(params, n=1), index=index), decodes=False)[0]
        for index in range(5)
    ]
    assert list(first) == singles
    assert len(set(first)) > 1
    later = Sampler().sample(
        logits.expand(5, -1), step_of([Member(params, outputs=[7], index=index) for index in range(5)])
    )
    assert not later.branches
    assert len(set(later.token_ids.tolist())) > 1


def test_draws_differ_from_position_to_position_and_seed_to_seed() -> None:
    """Each token has a number of its own."""
    logits = torch.zeros(1, VOCAB)
    by_position = {
        sample_alone(logits, Member(KINDS[4], outputs=[1] * n), decodes=n > 0)[0] for n in range(30)
    }
    by_seed = {sample_alone(logits, Member(SamplingParams(seed=n)), decodes=False)[0] for n in range(30)}
    assert len(by_position) > 12
    assert len(by_seed) > 12


def test_prompts_length_does_not_matter_for_the_draws() -> None:
    """What counts is how many tokens were generated."""
    logits = torch.zeros(2, VOCAB)
    short, long = (Member(KINDS[4], prompt=[1] * n, outputs=[2, 3]) for n in (1, 9))
    found = Sampler().sample(logits, step_of([short, long]))
    assert found.token_ids[0] == found.token_ids[1]


def test_repetition_penalty_turns_the_likeliest_around() -> None:
    """Positive logits of tokens that are there are divided, negative ones multiplied.

    Ids that the model has no logits for are ignored.
    """
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.0], [-1.0, -1.5, -3.0, -9.0]])
    members = [Member(params, [0, 99], [2]), Member(params, [0], [2])]
    assert Sampler().sample(logits, step_of(members)).token_ids.tolist() == [1, 1]


def test_logprobs_are_those_of_the_model() -> None:
    """Of the token, and of the likeliest ones: whatever temperature, penalty or cuts there are."""
    params = SamplingParams(temperature=0.3, top_k=2, repetition_penalty=3.0, seed=1, logprobs=3, n=4)
    logits = logits_of(2)
    members = [Member(params), Member(replace(params, logprobs=100, n=1))]
    found = Sampler().sample(logits, step_of(prefills=members))
    expected = logits.log_softmax(-1)
    for place, tokens in ((0, found.branches[0]), (1, [int(found.token_ids[1])])):
        assert [each.token_id for each in found.logprobs[place]] == list(tokens)
        for each in found.logprobs[place]:
            assert each.logprob == expected[place, each.token_id]
            best = expected[place].topk(len(each.top))
            assert [token for token, _ in each.top] == best.indices.tolist()
            assert [logprob for _, logprob in each.top] == best.values.tolist()
    assert [len(found.logprobs[place][0].top) for place in (0, 1)] == [3, VOCAB]


@pytest.mark.parametrize("num_ends", [0, 1, 2, 5])
def test_beams_get_as_many_candidates_as_their_search_needs(num_ends: int) -> None:
    """Twice the width; more if more than the width of them may end."""
    beam = Member(SamplingParams(beam_width=2), stop_token_ids=range(num_ends))
    logits = logits_of(1)
    (candidates,) = Sampler().sample(logits, step_of(prefills=[beam])).candidates.values()
    best = logits.log_softmax(-1)[0].topk(2 + max(2, num_ends))
    assert list(candidates) == list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def test_a_small_vocabulary() -> None:
    """More beams, candidates and log-probabilities than tokens."""
    members = [Member(SamplingParams(beam_width=9)), Member(SamplingParams(logprobs=5, top_k=7, seed=1))]
    found = Sampler().sample(torch.tensor([[0.5, 1.0]] * 2), step_of(prefills=members))
    assert [token for token, _ in found.candidates[0]] == [1, 0]
    assert [token for token, _ in found.logprobs[1][0].top] == [1, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("params", KINDS, ids=repr)
def test_logits_that_are_no_numbers(params: SamplingParams, value: float) -> None:
    """An error with the names of all requests concerned, and of no others; not a token."""
    logits = logits_of(4)
    logits[1:3, 5] = value
    others = [member(KINDS[at], at, 1) for at in (4, 7)]
    bad = [replace_id(member(params, 1, 1), "bad one"), replace_id(member(params, 2, 1), "bad two")]
    step = step_of([others[0], *bad, others[1]])
    with pytest.raises(ModelError, match=r"2 of the step's requests: 'bad one', 'bad two'\."):
        Sampler().sample(logits, step)


def replace_id(of: Member, request_id: str) -> Member:
    """The same under another name."""
    return Member(of.params, of.prompt, of.outputs, of.index, request_id)


@pytest.mark.parametrize("params", [GREEDY, KINDS[4], KINDS[8], KINDS[10]], ids=repr)
def test_logits_that_rule_out_everything(params: SamplingParams) -> None:
    """There is no likeliest token among impossible ones."""
    with pytest.raises(ModelError, match="'a'"):
        Sampler().sample(torch.full((1, VOCAB), -torch.inf), step_of(prefills=[Member(params)]))


@pytest.mark.parametrize("params", KINDS, ids=repr)
def test_masked_logits_are_never_chosen(params: SamplingParams) -> None:
    """Minus infinity is no error where something is left."""
    logits = logits_of(1).fill_(-torch.inf)
    logits[0, [3, 8]] = 0.0
    token, branches, candidates, _ = sample_alone(logits, member(params, 1, 0), decodes=False)
    found = branches or ([token for token, _ in candidates[:2]] if candidates else [token])
    assert set(found) <= {3, 8}


@pytest.mark.parametrize(
    ("params", "message"),
    [(None, "'a' has no sampling parameters"), (SamplingParams(), "'a' is to be drawn and has no seed")],
)
def test_requests_that_cannot_be_sampled(params: SamplingParams | None, message: str) -> None:
    """The engine gives each request parameters, with a seed."""
    with pytest.raises(InvalidRequest, match=message):
        Sampler().sample(logits_of(1), step_of(prefills=[Member(params)]))


@pytest.mark.parametrize("shape", [(2, VOCAB), (VOCAB,), (1, 1, VOCAB)])
def test_logits_of_another_step(shape: Sequence[int]) -> None:
    """One row for each sequence behind which is sampled."""
    with pytest.raises(InvalidRequest, match="samples behind 1 sequences"):
        Sampler().sample(torch.zeros(*shape), step_of(prefills=[Member(GREEDY)]))


def test_nothing_is_sampled() -> None:
    """A step that computes only beginnings of prompts."""
    found = Sampler().sample(torch.zeros(0, VOCAB), step_of())
    assert found.token_ids.shape == (0,)

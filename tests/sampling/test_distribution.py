"""What is drawn from: the distribution that transformers' processors make, and draws that follow it."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("torch", reason="the sampler works on torch tensors")

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagedkv.sampling import SamplingParams
from pagedkv.sampling.distribution import draw, keep_top_p
from pagedkv.sampling.kinds import by_kind
from pagedkv.sampling.lanes import DrawnLane, Lengths
from pagedkv.sampling.sampler import Sampler
from tests.examples import examples
from tests.sampling.steps import Member, step_of

VOCAB = 12
NEAR = 1e-5
LOGITS = st.one_of(
    st.lists(st.floats(-12, 12, width=32), min_size=VOCAB, max_size=VOCAB),
    st.lists(st.sampled_from([-3.0, 0.0, 1.0, 2.5]), min_size=VOCAB, max_size=VOCAB),  # with ties
    st.lists(st.sampled_from([-math.inf, 0.5, 1.0, 2.0]), min_size=VOCAB - 1, max_size=VOCAB - 1).map(
        lambda logits: [*logits, 0.0]
    ),
)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 1.7, 40.0]),
    top_k=st.sampled_from([0, 2, 3, 7, VOCAB, 50]),
    top_p=st.sampled_from([1e-6, 0.2, 0.5, 0.9, 0.999, 1.0]),
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.3, 5.0]),
    seed=st.just(0),
)
TOKENS = st.lists(st.integers(0, VOCAB + 2), min_size=1, max_size=6)


def ours(logits: torch.Tensor, member: Member) -> torch.Tensor:
    """What the sampler draws from, adding up to 1."""
    ((kind, rows),) = by_kind([member.sequence]).items()
    lane = DrawnLane(kind, rows, 1, logits.shape[1], logits.device)
    step = step_of(prefills=[member])
    lengths = Lengths(torch.tensor([member.sequence.num_tokens]).numpy(), step.decodes.token_ids)
    found = lane.probabilities(logits, lengths)[0].double()
    return found / found.sum()


def theirs(logits: torch.Tensor, member: Member, *, without_top_p: bool = False) -> torch.Tensor:
    """What transformers' `generate(do_sample=True)` draws from."""
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    params = member.params
    assert params is not None
    steps: list[Any] = [RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty))]
    steps.append(TemperatureLogitsWarper(float(params.temperature)))
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1 and not without_top_p:
        steps.append(TopPLogitsWarper(params.top_p))
    scores = LogitsProcessorList(steps)(torch.tensor([member.token_ids]), logits.clone())
    return scores[0].double().softmax(-1)


def is_unclear(whole: torch.Tensor, top_p: float) -> torch.Tensor:
    """Tokens on the edge: the cut is as near as rounding, or goes through tokens that are equally likely."""
    likelier = whole[None, :] > whole[:, None] * (1 + NEAR)
    above = (whole[None, :] * likelier).sum(1)
    is_tied = (whole[None, :] - whole[:, None]).abs() <= NEAR * whole[:, None]
    upto = above + (whole[None, :] * is_tied).sum(1)
    goes_through = (is_tied.sum(1) > 1) & (above < top_p + NEAR) & (upto > top_p - NEAR)
    return (above - top_p).abs().le(NEAR) | goes_through


@settings(max_examples=examples(400), deadline=None)
@given(LOGITS, PARAMS, TOKENS, TOKENS)
@example([float(n) for n in range(VOCAB)], SamplingParams(top_k=3, top_p=0.9, seed=0), [1], [2])
def test_as_transformers(
    values: list[float], params: SamplingParams, prompt: list[int], outputs: list[int]
) -> None:
    """The same tokens are kept, with the same probabilities, but for those on the edge of top-p."""
    pytest.importorskip("transformers", reason="the reference is its logits processors")
    logits, member = torch.tensor([values]), Member(params, prompt, outputs)
    found, expected = ours(logits, member), theirs(logits, member)
    if params.top_p < 1:
        unclear = is_unclear(theirs(logits, member, without_top_p=True), params.top_p)
        differs = (found > 0) != (expected > 0)
        assert not (differs & ~unclear).any()
        if differs.any():
            return
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-7)


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.floats(0.01, 0.999))
def test_top_p_by_its_definition(weights: list[int], top_p: float) -> None:
    """Kept is what has less than `top_p` of the probability above it; equals together."""
    total = max(sum(weights), 1)
    kept = keep_top_p(torch.tensor([weights]) / total, torch.tensor([[top_p]], dtype=torch.float64))[0] > 0
    for token, weight in enumerate(weights):
        above = sum(other for other in weights if other > weight) / total
        if abs(above - top_p) > NEAR:
            assert bool(kept[token]) == (weight > 0 and above < top_p)


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.9999])
def test_top_p_beyond_the_shortlist(top_p: float) -> None:
    """A distribution so flat that thousands of tokens are kept."""
    torch.manual_seed(3)
    scores = torch.randn(2, 5000) * torch.tensor([[0.1], [9.0]])
    probabilities = scores.softmax(-1)
    kept = keep_top_p(probabilities, torch.full((2, 1), top_p, dtype=torch.float64)) > 0
    for row in range(2):
        best, order = probabilities[row].double().sort(descending=True)
        count = int((best.cumsum(0) - best < top_p * best.sum()).sum())
        assert abs(int(kept[row].sum()) - count) <= 1
        assert kept[row][order[: count - 1]].all()
    assert int(kept[0].sum()) > 1000


def binomial_tail(count: int, trials: int, chance: float) -> float:
    """The probability of a count at least as far from the mean on its side; exact but for rounding."""
    if chance in (0.0, 1.0):
        return float(count == trials * chance)

    def log_mass(k: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return ways + k * math.log(chance) + (trials - k) * math.log1p(-chance)

    side = range(count + 1) if count <= trials * chance else range(count, trials + 1)
    return math.fsum(math.exp(log_mass(k)) for k in side)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(n=20_000, seed=11),
        SamplingParams(n=20_000, seed=12, temperature=0.5, top_k=5),
        SamplingParams(n=20_000, seed=13, temperature=1.4, top_p=0.8, repetition_penalty=1.5),
    ],
    ids=["plain", "top-k", "top-p"],
)
def test_draws_follow_the_distribution(params: SamplingParams) -> None:
    """20000 samples of one request: each token's count is one that chance gives."""
    order = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(1))
    logits = torch.linspace(-3, 2, VOCAB)[None, order]
    member = Member(params)
    drawn = Sampler().sample(logits, step_of(prefills=[member])).branches[0]
    assert len(drawn) == params.n
    counts = torch.bincount(torch.tensor(drawn), minlength=VOCAB).tolist()
    for count, chance in zip(counts, ours(logits, member).tolist(), strict=True):
        assert binomial_tail(count, params.n, chance) > 1e-5


def test_the_bounds_see_a_small_bias() -> None:
    """A count that is 5 % off is none that chance gives."""
    assert binomial_tail(5000, 20_000, 0.25) > 0.4
    assert binomial_tail(5250, 20_000, 0.25) < 1e-4


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1))
def test_draws_are_quantiles(weights: list[int], uniforms: Sequence[float]) -> None:
    """The first token up to which there is more probability than the number says."""
    total = sum(weights)
    found = draw(torch.tensor([weights]) / max(total, 1), torch.tensor([uniforms], dtype=torch.float64))[0]
    for token, number in zip(found.tolist(), uniforms, strict=True):
        if not total:
            assert token == -1
            continue
        assert weights[token] > 0
        below = sum(weights[:token]) / total
        assert below - NEAR <= number <= below + weights[token] / total + NEAR


def test_draws_at_the_ends() -> None:
    """The smallest and the largest number draw the first and the last token that can be drawn."""
    ends = torch.tensor([[2.0**-53, 1 - 2.0**-53]], dtype=torch.float64)
    assert draw(torch.tensor([[0.0, 0.25, 0.5, 0.25, 0.0]]), ends).tolist() == [[1, 3]]

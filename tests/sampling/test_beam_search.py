"""Beam search on small tables of probabilities, where all sequences can be gone through."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.sampling import SamplingParams
from pagedkv.sampling.beam_search import BeamSearch, Hypothesis
from tests.examples import examples

END = 0


class Table:
    """A model whose log-probabilities depend on the last token and the length."""

    def __init__(self, seed: int, vocab: int) -> None:
        random = np.random.default_rng(seed)
        weights = random.gamma(0.7, size=(8, vocab + 1, vocab)) + 1e-3
        self.vocab = vocab
        self._logprobs = np.log(weights / weights.sum(-1, keepdims=True)).astype(np.float32)

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Of each next token."""
        return self._logprobs[len(tokens), tokens[-1] if tokens else self.vocab].tolist()  # type: ignore[no-any-return]

    def logprob(self, tokens: Sequence[int]) -> float:
        """Of all these tokens."""
        return math.fsum(self.logprobs(tokens[:at])[token] for at, token in enumerate(tokens))

    def candidates(self, tokens: Sequence[int], count: int) -> list[tuple[int, float]]:
        """The likeliest next tokens."""
        return sorted(enumerate(self.logprobs(tokens)), key=lambda pair: -pair[1])[:count]

    def sequences(self, max_tokens: int) -> Iterator[tuple[tuple[int, ...], float]]:
        """All that end, or have as many tokens as they may; with their log-probabilities."""
        for length in range(1, max_tokens + 1):
            for tokens in product(range(self.vocab), repeat=length):
                ends = tokens[-1] == END or length == max_tokens
                if END not in tokens[:-1] and ends:
                    yield tokens, self.logprob(tokens)


def run(table: Table, params: SamplingParams, max_tokens: int, ends: Sequence[int] = (END,)) -> BeamSearch:
    """Search to the end, keeping the beams in the order in which a scheduler has them."""
    search = BeamSearch(params, ends, max_tokens)
    beams: list[list[int]] = [[]]
    while not search.is_done:
        families = search.advance([table.candidates(tokens, 2 * params.beam_width) for tokens in beams])
        assert len(families) == len(beams)
        going_on = [(tokens, family) for tokens, family in zip(beams, families, strict=True) if family]
        beams = [[*tokens, family[0]] for tokens, family in going_on]
        beams += [[*tokens, token] for tokens, family in going_on for token in family[1:]]
        assert len(beams) <= params.beam_width
    assert not beams
    return search


@settings(max_examples=examples(160), deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 4), st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_search_that_is_wide_enough_finds_the_best(
    seed: int, vocab: int, longest: int, length_penalty: float
) -> None:
    """With a beam for every sequence, the results are the best of all sequences, best first."""
    table = Table(seed, vocab)
    complete = table.sequences(longest)
    scored = ((logprob / len(tokens) ** length_penalty, tokens) for tokens, logprob in complete)
    everything = sorted(scored, reverse=True)
    width = max(len(everything), 2)
    params = SamplingParams(beam_width=width, n=width, length_penalty=length_penalty)
    found = run(table, params, longest).results()
    assert [each.score for each in found] == pytest.approx([score for score, _ in everything], rel=1e-5)
    assert {tuple(each.token_ids) for each in found} == {tokens for _, tokens in everything}


@settings(max_examples=examples(240), deadline=None)
@given(
    st.integers(0, 2**16),
    st.integers(2, 5),
    st.sampled_from([-1.0, 0.0, 1.0, 1.5]),
    st.booleans(),
)
def test_results_are_what_they_say(seed: int, width: int, length_penalty: float, early: bool) -> None:
    """Distinct, best first, complete, and as likely as the table has them."""
    table, max_tokens = Table(seed, 5), 6
    params = SamplingParams(beam_width=width, n=width, length_penalty=length_penalty, early_stopping=early)
    results = run(table, params, max_tokens).results()
    assert len(results) == width
    assert len({tuple(each.token_ids) for each in results}) == width
    assert [each.score for each in results] == sorted((each.score for each in results), reverse=True)
    for each in results:
        check(table, each, length_penalty, max_tokens)


def check(table: Table, found: Hypothesis, length_penalty: float, max_tokens: int) -> None:
    """Compare a result with the table."""
    tokens = list(found.token_ids)
    logprob = table.logprob(tokens)
    assert found.cumulative_logprob == pytest.approx(logprob, rel=1e-5)
    assert found.score == pytest.approx(logprob / len(tokens) ** length_penalty, rel=1e-5)
    assert END not in tokens[:-1]
    assert found.finish_reason == ("stop" if tokens[-1] == END else "length")
    assert found.finish_reason == "stop" or len(tokens) == max_tokens


@settings(max_examples=examples(160), deadline=None)
@given(st.integers(0, 2**16), st.integers(2, 4))
def test_early_stopping_ends_no_later(seed: int, width: int) -> None:
    """It takes the first results; waiting finds ones that are as good or better."""
    table = Table(seed, 5)
    patient = run(table, SamplingParams(beam_width=width), 6).results()
    hasty = run(table, SamplingParams(beam_width=width, early_stopping=True), 6).results()
    assert hasty[0].score <= patient[0].score


def test_a_search_by_hand() -> None:
    """Two beams: which go on with what, what is kept, and when it is over."""
    search = BeamSearch(SamplingParams(beam_width=2, n=2), [END], 10)
    assert search.advance([[(5, -0.5), (END, -1.0), (6, -2.0), (7, -3.0)]]) == [[5, 6]]
    assert [each.token_ids for each in search.results()] == [[END]]
    # beam [5] is continued twice, so [6] is given up; the end comes third and is not kept
    assert search.advance([[(1, -0.25), (2, -0.5), (END, -0.75)], [(3, -9.0), (END, -0.1)]]) == [[1, 2], []]
    assert len(search.results()) == 1
    # the best sum -1.75, over 3, beats -1.0: it is kept first, and what is left cannot improve on -1.0
    assert search.advance([[(END, -1.0), (4, -3.0)], [(4, -4.0), (6, -4.5)]]) == [[], []]
    assert search.is_done
    best, second = search.results()
    assert (best.token_ids, best.cumulative_logprob, best.finish_reason) == ([5, 1, END], -1.75, "stop")
    assert best.score == pytest.approx(-1.75 / 3)
    assert (second.token_ids, second.score) == ([END], -1.0)


def test_of_equal_candidates_the_better_beam_and_the_lower_token_come_first() -> None:
    """Whatever the order in which they are offered, and in which the beams lie."""
    search = BeamSearch(SamplingParams(beam_width=2), [], 10)
    assert search.advance([[(9, -1.0), (2, -1.0), (4, -1.0)]]) == [[2, 4]]
    assert search.advance([[(8, -2.0)], [(7, -1.0), (6, -1.0)]]) == [[], [6, 7]]
    assert search.advance([[(5, -1.0)], [(3, -1.0), (1, -1.0)]]) == [[5], [1]]


def test_the_better_beam_is_the_likelier_one() -> None:
    """Not the one that lies before it."""
    search = BeamSearch(SamplingParams(beam_width=3), [], 10)
    assert search.advance([[(1, -1.0), (2, -2.0), (3, -3.0)]]) == [[1, 2, 3]]
    assert search.advance([[(4, -5.0)], [(5, -1.0)], [(6, -1.0)]]) == [[4], [5], [6]]
    assert search.advance([[(7, -1.0)], [(7, -4.0)], [(7, -3.0), (8, -3.0)]]) == [[], [7], [7, 8]]


def test_beams_are_in_the_order_of_the_requests_sequences() -> None:
    """A new beam comes behind all that go on, however good it is."""
    search = BeamSearch(SamplingParams(beam_width=3), [], 10)
    assert search.advance([[(1, -1.0), (2, -2.0), (3, -3.0)]]) == [[1, 2, 3]]
    assert search.advance([[(4, -0.1), (5, -0.2)], [(6, -0.3)], [(7, -9.0)]]) == [[4, 5], [6], []]
    # now [1, 4], [2, 6], [1, 5]
    assert search.advance([[(7, -9.0)], [(8, -9.0)], [(9, -0.1), (7, -0.2), (8, -0.3)]]) == [
        [],
        [],
        [9, 7, 8],
    ]


def test_max_tokens_ends_all_beams_at_once() -> None:
    """With the one token that they may have."""
    search = BeamSearch(SamplingParams(beam_width=2, n=2), [END], 1)
    assert search.advance([[(3, -1.0), (END, -2.0), (4, -3.0)]]) == [[]]
    assert [(each.token_ids, each.finish_reason) for each in search.results()] == [
        ([3], "length"),
        ([END], "stop"),
    ]


def test_a_search_takes_candidates_of_its_beams_only() -> None:
    """Of all of them, and none once it is over; a refusal changes nothing."""
    search = BeamSearch(SamplingParams(beam_width=2), [END], 2)
    with pytest.raises(InvalidRequest, match="candidates of 2 beams for a search that has 1"):
        search.advance([[(1, -1.0)], [(1, -1.0)]])
    assert search.advance([[(1, -1.0), (2, -2.0)]]) == [[1, 2]]
    search.advance([[(1, -1.0)], [(1, -1.0)]])
    with pytest.raises(InvalidRequest, match="has ended"):
        search.advance([])


@pytest.mark.parametrize("length_penalty", [50.0, -50.0])
def test_a_length_penalty_out_of_range(length_penalty: float) -> None:
    """Refused before it makes zero or infinity of scores."""
    params = SamplingParams(beam_width=2, length_penalty=length_penalty)
    with pytest.raises(ConfigError, match=r"length_penalty is -?50\.0 and max_tokens 100"):
        BeamSearch(params, [], 100)
    BeamSearch(params, [], 5)

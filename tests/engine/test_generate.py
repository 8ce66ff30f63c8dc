"""What `Engine.generate` returns."""

import pytest

from pagedkv.errors import InvalidRequest, RequestRefused
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import END, ByteTokenizer, answer, likeliest, scripted, toy_engine

GREEDY = SamplingParams(max_tokens=12, temperature=0.0)
PROMPTS = [[i + 3, *range(i % 7), 9 * i] for i in range(20)]


def test_greedy_outputs_in_the_order_of_the_prompts() -> None:
    """Each request says what it says alone, whatever is batched, shared, chunked or preempted."""
    engine, _ = toy_engine(num_blocks=24, max_batch_tokens=16)
    found = engine.generate(PROMPTS, GREEDY)

    assert [each.outputs[0].token_ids for each in found] == [answer(prompt, 12) for prompt in PROMPTS]
    assert [each.prompt_token_ids for each in found] == PROMPTS
    assert all(each.finished and each.prompt is None for each in found)
    assert engine.stats().num_preemptions > 0
    assert engine.scheduler.cache.pool.num_free == 24


def test_parameters_for_each_prompt() -> None:
    """A list of parameters goes with the prompts one by one, and must be as long."""
    engine, _ = toy_engine()
    params = [SamplingParams(max_tokens=n, temperature=0.0, ignore_eos=True) for n in (1, 5, 3)]
    found = engine.generate([[1], [2], [3]], params)

    assert [len(each.outputs[0].token_ids) for each in found] == [1, 5, 3]
    assert [each.outputs[0].finish_reason for each in found] == ["length"] * 3
    with pytest.raises(InvalidRequest, match="2 prompts, and 3 SamplingParams"):
        engine.generate([[1], [2]], params)


def test_texts() -> None:
    """Texts are encoded and decoded, a single one is a list of one, and an end token says nothing."""
    engine, _ = toy_engine(tokenizer=ByteTokenizer(), say=scripted("grüße".encode()))
    found = engine.generate("a", SamplingParams(temperature=0.0))

    assert len(found) == 1
    assert (found[0].prompt, found[0].prompt_token_ids) == ("a", [97])
    assert found[0].outputs[0].text == "grüße"
    assert found[0].outputs[0].token_ids == [*"grüße".encode(), END]
    assert found[0].outputs[0].finish_reason == "stop"


def test_samples_differ_and_repeat_whatever_runs_beside() -> None:
    """Samples share a prompt, have their own tokens, and the same ones in a crowd and alone."""
    params = SamplingParams(max_tokens=9, n=3, seed=11, ignore_eos=True)
    crowd, _ = toy_engine(num_blocks=40, max_batch_tokens=16)
    for prompt in PROMPTS:
        crowd.add_request(prompt, SamplingParams(max_tokens=20))
    alone, _ = toy_engine()
    in_crowd = crowd.generate([[7, 8, 9]], params)[0]
    by_itself = alone.generate([[7, 8, 9]], params)[0]

    samples = [each.token_ids for each in by_itself.outputs]
    assert [each.token_ids for each in in_crowd.outputs] == samples
    assert [each.index for each in by_itself.outputs] == [0, 1, 2]
    firsts = [answer([7, 8, 9], 1, seed=11, index=i) for i in range(3)]
    assert [each[:1] for each in samples] == firsts


def test_a_seed_is_drawn_where_none_is_given() -> None:
    """Requests without a seed differ from each other; engines of one seed repeat them."""
    outputs = []
    for _ in range(2):
        engine, _ = toy_engine()
        found = engine.generate([[5, 6]] * 3, SamplingParams(max_tokens=8, ignore_eos=True))
        outputs.append([each.outputs[0].token_ids for each in found])

    assert outputs[0] == outputs[1]
    assert len(set(map(tuple, outputs[0]))) == 3


def test_beams_are_the_best_of_all_paths() -> None:
    """A search as wide as the tree below it finds what trying everything finds."""
    engine, _ = toy_engine(num_blocks=200)
    params = SamplingParams(max_tokens=3, beam_width=36, n=4, ignore_eos=True)
    found = engine.generate([[4, 2]], params)[0]

    paths = [((), 0.0)]
    for _ in range(3):
        paths = [
            ((*path, token), total + logprob)
            for path, total in paths
            for token, logprob in likeliest([4, 2, *path], 72)
        ]
    best = sorted(paths, key=lambda each: -each[1])[:4]
    assert [each.cumulative_logprob for each in found.outputs] == pytest.approx([each[1] for each in best])
    assert found.outputs[0].token_ids == list(best[0][0])
    assert [each.finish_reason for each in found.outputs] == ["length"] * 4
    assert engine.scheduler.cache.pool.num_free == 200


def test_beams_go_on_through_preemptions() -> None:
    """A search finds the same in a pool so small that it loses its blocks."""
    params = SamplingParams(max_tokens=10, beam_width=4, ignore_eos=True)
    wide, _ = toy_engine(num_blocks=400)
    tight, _ = toy_engine(num_blocks=24, max_batch_tokens=32)

    def tell(outputs: list) -> list:
        return [[(each.token_ids, each.cumulative_logprob) for each in out.outputs] for out in outputs]

    assert tell(tight.generate(PROMPTS, params)) == tell(wide.generate(PROMPTS, params))
    assert tight.stats().num_preemptions > wide.stats().num_preemptions == 0


def test_logprobs_go_with_their_tokens() -> None:
    """Each token has its own, in each sample, and their sum is told."""
    engine, _ = toy_engine(num_blocks=20, max_batch_tokens=8)
    params = SamplingParams(max_tokens=6, n=3, logprobs=0)
    outputs = [each for out in engine.generate(PROMPTS[:6], params) for each in out.outputs]

    assert len(outputs) == 18
    for each in outputs:
        assert [entry.token_id for entry in each.logprobs] == list(each.token_ids)
        assert each.cumulative_logprob == pytest.approx(sum(entry.logprob for entry in each.logprobs))


def test_progress_is_told() -> None:
    """It counts the requests that have ended, up to all of them."""
    engine, _ = toy_engine()
    seen: list[tuple[int, int]] = []
    params = [SamplingParams(max_tokens=n, temperature=0.0, ignore_eos=True) for n in (1, 4, 2)]
    engine.generate([[1], [2], [3]], params, progress=lambda *counts: seen.append(counts))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_refused_prompt_leaves_none_behind() -> None:
    """If one of the prompts cannot be served, the others are not left in the engine."""
    engine, _ = toy_engine()
    with pytest.raises(RequestRefused):
        engine.generate([[1], [2] * 500], GREEDY)

    assert not engine.has_unfinished
    assert engine.scheduler.cache.pool.num_free == 64


def test_requests_of_others_are_told_by_step() -> None:
    """What ends while `generate` runs, and is not its own, waits for the next step."""
    engine, _ = toy_engine()
    other = engine.add_request([1, 2], SamplingParams(max_tokens=2, temperature=0.0))
    mine = engine.generate([[3]], SamplingParams(max_tokens=9, temperature=0.0, ignore_eos=True))

    assert [each.request_id for each in mine] != [other]
    assert engine.has_unfinished
    assert [each.request_id for each in engine.step()] == [other]
    assert not engine.has_unfinished


def test_it_sleeps_while_requests_are_held() -> None:
    """A batch window does not make `generate` spin: the clock moves to its end."""
    engine, model = toy_engine(batch_merge_window_ms=50.0)
    out = engine.generate([[1]], GREEDY)[0]

    assert out.metrics.first_scheduled_s == pytest.approx(0.05)
    assert len(model.steps) == len(out.outputs[0].token_ids)


def test_no_prompts() -> None:
    """Nothing asked, nothing done."""
    engine, model = toy_engine()

    assert engine.generate([]) == []
    assert model.steps == []

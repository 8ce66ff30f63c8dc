"""Thousands of requests with everything that can happen to them, on a simulated device.

A second engine, of ample blocks and without any disturbance, says what each request has to generate.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, ForkMode, SchedulerConfig
from pagedkv.engine import Engine, ModelLimits, RequestOutput
from pagedkv.errors import InvalidLogits, RequestRefused
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import ScheduledStep, Scheduler
from pagedkv.simulate.cost import CostModel
from pagedkv.simulate.executor import SimulatedExecutor
from pagedkv.simulate.shapes import ModelShape
from tests.engine.toy import END, VOCAB_SIZE, ByteTokenizer

BLOCK_SIZE = 8
LONGEST = 120
MOST_LIVE = 60
SHAPE = ModelShape(
    name="tiny",
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=VOCAB_SIZE,
)
DISTURBANCES = {
    "aborted": 0.2,  # chances for each step
    "aborted within": 0.05,  # between scheduling and committing, before the work and behind it
    "failed before": 0.03,
    "failed behind": 0.03,
    "no numbers": 0.01,
    "looked at": 0.02,
}


class Asked(NamedTuple):
    """What is asked of the engine."""

    prompt: list[int]
    params: SamplingParams
    priority: int
    namespace: str
    streams: bool


def requests(count: int, rng: random.Random) -> Iterator[Asked]:
    """Prompts that share beginnings, with all kinds of sampling."""
    bases = [[rng.randrange(256) for _ in range(50)] for _ in range(8)]
    for _ in range(count):
        shared, own = rng.choice(bases)[: rng.randrange(51)], rng.randrange(1, 30)
        yield Asked(
            prompt=[*shared, *(rng.randrange(256) for _ in range(own))],
            params=_params(rng),
            priority=rng.randrange(4),
            namespace=rng.choice(["", "", "", "other"]),
            streams=rng.random() < 0.3,
        )


def _params(rng: random.Random) -> SamplingParams:
    max_tokens, kind = 1 + min(39, int(rng.expovariate(1 / 8))), rng.random()
    if kind < 0.15:
        width = rng.randrange(2, 5)
        return SamplingParams(
            max_tokens=max_tokens,
            beam_width=width,
            n=rng.randrange(1, width + 1),
            length_penalty=rng.choice([0.0, 1.0, 2.0]),
            early_stopping=rng.random() < 0.5,
        )
    return SamplingParams(
        max_tokens=max_tokens,
        n=rng.randrange(2, 5) if kind < 0.4 else 1,
        stop=rng.choice([(), (), ("a", "b", "xy"), tuple("0123456789")]),
        ignore_eos=rng.random() < 0.3,
        logprobs=None,
    )


@dataclass
class Disturbed:
    """An executor during whose work requests are aborted, and that fails now and then."""

    inner: SimulatedExecutor
    rng: random.Random
    happened: Counter[str]
    abort: Callable[[], None]

    def execute(self, step: ScheduledStep) -> Sampled:
        if self._happens("aborted within"):
            self.abort()
        if self._happens("failed before"):
            raise OSError(5, "the device is gone")
        sampled = self.inner.execute(step)
        if self._happens("aborted within"):
            self.abort()
        if self._happens("failed behind"):
            raise MemoryError
        if step.num_sampled and self._happens("no numbers"):
            unlucky = self.rng.choice(step.sampling()).request.request_id
            raise InvalidLogits([unlucky], "NaN")
        return sampled

    def close(self) -> None:
        self.inner.close()

    def _happens(self, what: str) -> bool:
        happens = self.rng.random() < DISTURBANCES[what]
        self.happened[what] += happens
        return happens


def engine_of(
    num_blocks: int, fork_mode: ForkMode = "lazy", **scheduler: object
) -> tuple[Engine, SimulatedExecutor]:
    """An engine on a simulated device."""
    clock = VirtualClock()
    blocks = BlockManager(CacheConfig(num_blocks=num_blocks, block_size=BLOCK_SIZE, fork_mode=fork_mode))
    executor = SimulatedExecutor(clock, CostModel("h200", SHAPE, block_size=BLOCK_SIZE), seed=4)
    engine = Engine(
        executor,
        Scheduler(blocks, SchedulerConfig(**scheduler), clock),
        tokenizer=ByteTokenizer(),
        limits=ModelLimits(end_token_ids=(END, 7), max_model_len=LONGEST, vocab_size=VOCAB_SIZE),
        seed=1,
    )
    return engine, executor


@dataclass
class Told:
    """What was told of a request: tokens, text and end of each of its completions, and how often it ended."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    num_ends: int = 0

    def hear(self, output: RequestOutput) -> None:
        """Put what was told together with what was told before."""
        assert not self.num_ends, "told after its end"
        self.num_ends += output.finished
        for each in output.outputs:
            assert each.index not in self.reasons, "a completion told after its end"
            self.tokens.setdefault(each.index, []).extend(each.token_ids)
            self.texts[each.index] = self.texts.get(each.index, "") + each.text
            if each.finish_reason is not None:
                self.reasons[each.index] = each.finish_reason


class Soak:
    """One run: requests arrive as others leave, and all kinds of things happen to them."""

    def __init__(self, asked: Sequence[Asked], seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.happened: Counter[str] = Counter()
        self.engine, executor = engine_of(
            90,
            fork_mode=self.rng.choice(["lazy", "eager", "full_blocks"]),
            policy=self.rng.choice(["fcfs", "lifo", "priority"]),
            max_running=40,
            max_batch_tokens=96,
        )
        self.engine._executor = Disturbed(executor, self.rng, self.happened, self._abort)
        self.asked = list(asked)
        self.told: dict[int | str, Told] = {}

    def run(self) -> None:
        """Serve all of them."""
        waiting = list(enumerate(self.asked))[::-1]
        while waiting or self.engine.has_unfinished:
            while waiting and len(self.engine.scheduler.requests) < MOST_LIVE and self.rng.random() < 0.8:
                self._add(*waiting.pop())
            self._step()
            self._disturb()
        self.engine.scheduler.cache.check_integrity()

    def _add(self, number: int, asked: Asked) -> None:
        with pytest.raises(RequestRefused):
            self.engine.add_request([1] * self.rng.choice([LONGEST, 500]), request_id="refused")
        self.told[number] = Told()
        self.engine.add_request(
            asked.prompt,
            asked.params,
            request_id=number,
            priority=asked.priority,
            namespace=asked.namespace,
            stream=asked.streams,
        )

    def _step(self) -> None:
        try:
            outputs = self.engine.step()
        except (OSError, MemoryError, InvalidLogits):
            self.engine.scheduler.cache.check_integrity()
            return
        for output in outputs:
            self.told[output.request_id].hear(output)

    def _disturb(self) -> None:
        if self.rng.random() < DISTURBANCES["aborted"]:
            self._abort()
        if self.rng.random() < DISTURBANCES["looked at"]:
            self.engine.scheduler.cache.check_integrity()
            shot = self.engine.snapshot()
            assert {each["request_id"] for each in shot["requests"]} == set(self.engine.scheduler.requests)

    def _abort(self) -> None:
        if live := list(self.engine.scheduler.requests):
            request_id = self.rng.choice(live)
            self.told[request_id].hear(self.engine.abort(request_id))
            self.happened["aborted"] += 1


def calm(asked: Sequence[Asked]) -> list[RequestOutput]:
    """What the same requests generate where nothing happens to them."""
    engine, _ = engine_of(20_000, max_running=400, max_batch_tokens=4096)
    outputs = engine.generate([each.prompt for each in asked], [each.params for each in asked])
    assert engine.stats().num_preemptions == 0
    return outputs


def check(soak: Soak, expected: Sequence[RequestOutput]) -> None:
    """Every request ended once, with what it has to say, or the beginning of that if it was aborted."""
    assert list(soak.told) == list(range(len(soak.asked)))
    num_aborted = 0
    for told, whole in zip(soak.told.values(), expected, strict=True):
        assert told.num_ends == 1
        is_aborted = "abort" in told.reasons.values()
        num_aborted += is_aborted
        if not is_aborted:
            assert told.tokens == {each.index: list(each.token_ids) for each in whole.outputs}
            assert told.texts == {each.index: each.text for each in whole.outputs}
            assert told.reasons == {each.index: each.finish_reason for each in whole.outputs}
        elif soak.asked[int(whole.request_id)].params.beam_width == 1:
            for each in whole.outputs:
                part = told.tokens.get(each.index, [])
                assert list(each.token_ids[: len(part)]) == part
    stats, pool = soak.engine.stats(), soak.engine.scheduler.cache.pool
    assert pool.num_free == pool.num_blocks
    assert soak.engine.scheduler.cache.num_sequences == 0
    assert not soak.engine.scheduler.requests
    assert (stats.num_requests, stats.num_aborted) == (len(soak.asked), num_aborted)
    assert stats.num_finished == len(soak.asked) - num_aborted
    assert num_aborted <= soak.happened["aborted"] + soak.happened["no numbers"]


@pytest.mark.parametrize(
    ("count", "seed"), [(200, 1), (200, 2), (200, 3), pytest.param(10_000, 9, marks=pytest.mark.heavy)]
)
def test_soak(count: int, seed: int, record_property: Callable[[str, object], None]) -> None:
    """Aborts, samples, beams, streams, stop texts, preemptions and failures; all blocks come home."""
    asked = list(requests(count, random.Random(seed)))  # noqa: S311
    soak = Soak(asked, seed)
    soak.run()
    check(soak, calm(asked))

    stats = soak.engine.stats()
    for name, number in {
        **soak.happened,
        "preemptions": stats.num_preemptions,
        "steps": stats.num_steps,
    }.items():
        record_property(name, number)
    assert stats.num_preemptions > count // 20
    assert stats.num_hit_tokens > 0
    assert stats.counters["sequences_forked"] > count // 10
    assert soak.happened["aborted"] > count // 50
    assert soak.happened["aborted within"] > count // 50
    assert stats.num_failed_steps > 0


def test_a_lost_output_is_noticed() -> None:
    """Negative control: a request of which the engine forgets to tell, and a token that changes."""
    asked = list(requests(60, random.Random(1)))  # noqa: S311
    expected = calm(asked)
    plain = Soak(asked, 1)
    plain.run()
    check(plain, expected)
    lost = next(number for number, told in plain.told.items() if "abort" not in told.reasons.values())

    soak = Soak(asked, 1)
    deliver = soak.engine._mail.deliver
    soak.engine._mail.deliver = lambda output: None if output.request_id == lost else deliver(output)
    soak.run()
    with pytest.raises(AssertionError):
        check(soak, expected)

    wrong = Soak(asked, 1)
    execute = wrong.engine._executor.inner.execute

    def off_by_one(step: ScheduledStep) -> Sampled:
        sampled = execute(step)
        sampled.token_ids[:1] += step.number % 20 == 0
        return sampled

    wrong.engine._executor.inner.execute = off_by_one
    wrong.run()
    with pytest.raises(AssertionError):
        check(wrong, expected)

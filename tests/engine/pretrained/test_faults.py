"""Negative controls: with a planted fault, what the other tests compare is different."""

from collections.abc import Callable
from dataclasses import replace

import pytest

pytest.importorskip("transformers")

from pagedkv.engine import Engine
from pagedkv.errors import InvalidLogits
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import ScheduledStep
from tests.engine.pretrained.conftest import EngineOf, prompts, token_ids

Fault = Callable[[ScheduledStep], ScheduledStep]

GREEDY = SamplingParams(max_tokens=12, temperature=0.0)
SAMPLES = SamplingParams(max_tokens=12, n=3, seed=2)
BEAMS = SamplingParams(max_tokens=12, beam_width=4, n=4)


def wrong_position(step: ScheduledStep) -> ScheduledStep:
    """Tokens that decode stand one place too far from the second block on."""
    decodes = step.decodes
    return replace(step, decodes=replace(decodes, positions=decodes.positions + (decodes.positions > 20)))


def dropped_copies(step: ScheduledStep) -> ScheduledStep:
    """Shared blocks are not copied before they are written to."""
    return replace(step, copies=())


def wrong_slots(step: ScheduledStep) -> ScheduledStep:
    """The KV of the first sequence that decodes goes where that of the last one belongs, and so on."""
    return replace(step, decodes=replace(step.decodes, slot_mapping=step.decodes.slot_mapping[::-1].copy()))


def plant(engine: Engine, fault: Fault) -> None:
    """Let the executor see another step than the scheduler meant."""
    execute = engine._executor.execute

    def wrong(step: ScheduledStep) -> Sampled:
        return execute(fault(step))

    engine._executor.execute = wrong


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("fault", "params"),
    [
        (wrong_position, GREEDY),
        (wrong_slots, GREEDY),
        (dropped_copies, SAMPLES),
        (dropped_copies, BEAMS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_shows(name: str, fault: Fault, params: SamplingParams, engine_of: EngineOf) -> None:
    """What is generated differs from what a right engine says."""
    asked = prompts((30, 17, 9))
    right = token_ids(engine_of(name).generate(asked, params))
    assert token_ids(engine_of(name).generate(asked, params)) == right
    engine = engine_of(name)
    plant(engine, fault)
    try:
        wrong = token_ids(engine.generate(asked, params))
    except InvalidLogits:
        return  # what was read without having been written is NaN, which shows, too
    assert wrong != right

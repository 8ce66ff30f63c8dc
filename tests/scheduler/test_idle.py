"""A scheduler that lets nobody begin."""

from collections.abc import Callable

import pytest

from pagedkv.config import CacheConfig
from pagedkv.errors import InvariantError
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler.admission import Admission
from pagedkv.simulate import simulate
from pagedkv.traces import Trace, TraceRequest
from tests.engine.toy import toy_engine


def serve_a_prompt() -> None:
    """An engine."""
    engine, _ = toy_engine()
    engine.generate([[1, 2, 3]], SamplingParams(max_tokens=2))


def simulate_a_request() -> None:
    """A simulation."""
    request = TraceRequest(0, line=1, arrival_ms=0, num_prompt_tokens=3, num_output_tokens=2)
    simulate(Trace("made", "azure", None, [request]), cache=CacheConfig(num_blocks=8, prefix_caching=False))


@pytest.mark.parametrize("loop", [serve_a_prompt, simulate_a_request])
def test_a_loop_over_empty_steps_ends(loop: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what waits; with nobody kept from beginning, the same loop comes to its end."""
    loop()
    monkeypatch.setattr(Admission, "admit", lambda *_: None)
    with pytest.raises(InvariantError, match="1 requests wait and 0 run, but the last 9 steps were empty"):
        loop()

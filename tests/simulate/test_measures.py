"""What is folded from events is what the cache holds."""

import pytest

from pagedkv.config import CacheConfig, ForkMode
from pagedkv.scheduler import ScheduledStep
from pagedkv.simulate import simulate
from pagedkv.simulate.measures import Measures
from pagedkv.traces import generate


@pytest.mark.parametrize("preset", ["chat", "samples", "beams"])
@pytest.mark.parametrize("fork_mode", ["lazy", "eager"])
def test_references_are_the_block_tables(
    preset: str, fork_mode: ForkMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References counted by events are the lengths of all tables, whatever is hit, forked, copied or lost."""
    seen: list[tuple[int, int]] = []
    counted = Measures.scheduled

    def compared(measures: Measures, step: ScheduledStep, num_waiting: int) -> None:
        cache = measures._cache
        held = sum(len(cache.block_table(seq_id)) for seq_id in cache.seq_ids())
        seen.append((measures._references.total, held))
        counted(measures, step, num_waiting)

    monkeypatch.setattr(Measures, "scheduled", compared)
    cache = CacheConfig(num_blocks=250, block_size=16, fork_mode=fork_mode)
    trace = generate(preset, num_requests=25, seed=1, request_rate_per_s=40.0, max_prompt_tokens=1500)
    found = simulate(trace, cache=cache)

    assert found.steps == len(seen) > 100
    assert [counted for counted, _ in seen] == [held for _, held in seen]
    assert found.unshared_block_steps == sum(held for _, held in seen)

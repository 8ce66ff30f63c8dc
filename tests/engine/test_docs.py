"""docs/engine.md names everything that an engine tells."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pagedkv.engine import SECTIONS, CompletionOutput, EngineStats, RequestMetrics, RequestOutput
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import toy_engine

DOCS = Path(__file__).parents[2] / "docs" / "engine.md"

_NAMED_BY_CALLERS = ("config", "counters", "num_by_ref_count", "refcount_hist")


def keys(values: Any) -> Iterator[str]:
    """The names of a snapshot, at all depths but settings."""
    if isinstance(values, list):
        for each in values:
            yield from keys(each)
    elif isinstance(values, dict):
        for name, each in values.items():
            yield name
            yield from () if name in _NAMED_BY_CALLERS else keys(each)


def test_every_field_is_described() -> None:
    """Of stats, outputs, parameters and the snapshot."""
    engine, _ = toy_engine(max_running=4)
    for prompt in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [8]):
        engine.add_request(prompt, SamplingParams(n=2))
        engine.step()
    text = DOCS.read_text()
    kinds = (CompletionOutput, EngineStats, RequestMetrics, RequestOutput, SamplingParams)
    names = {field.name for kind in kinds for field in fields(kind)} | set(keys(engine.snapshot(SECTIONS)))

    assert {"num_blocks", "why_held", "num_blocks_saved", "duration_ms"} <= names
    assert sorted(name for name in names if f"{name}`" not in text) == []

"""docs/engine.md names everything that an engine tells."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pagedkv.engine import CompletionOutput, EngineStats, RequestMetrics, RequestOutput
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import toy_engine

DOCS = Path(__file__).parents[2] / "docs" / "engine.md"


def keys(values: Any) -> Iterator[str]:
    """The names of a snapshot, at all depths but settings."""
    if isinstance(values, list):
        for each in values:
            yield from keys(each)
    elif isinstance(values, dict):
        for name, each in values.items():
            yield name
            yield from () if name in ("config", "refcount_hist") else keys(each)


def test_every_field_is_described() -> None:
    """Of stats, outputs, parameters and the snapshot."""
    engine, _ = toy_engine()
    engine.add_request([1, 2], SamplingParams(n=2))
    engine.step()
    text = DOCS.read_text()
    kinds = (CompletionOutput, EngineStats, RequestMetrics, RequestOutput, SamplingParams)
    names = {field.name for kind in kinds for field in fields(kind)} | set(keys(engine.snapshot()))

    assert "num_blocks" in names
    assert sorted(name for name in names if f"{name}`" not in text) == []

"""Finding and keeping the traces that tests ask for."""

import os
from pathlib import Path
from typing import Any

import pytest

from pagedkv.traces import Trace, generate, read_trace
from pytest_pagedkv.state import State

__all__ = ["Traces"]

_GENERATED = "generated:"
_ENDINGS = (".jsonl.gz", ".csv.gz", ".json.gz", ".jsonl", ".csv", ".json")


class Traces:
    """The traces of a session; each is read or generated once.

    Args:
        state: says where trace files are.
        here: the folder that a relative PAGEDKV_TRACES is in.
        seed: of generated traces.
    """

    def __init__(self, state: State, here: Path, seed: int) -> None:
        named, ini = os.environ.get("PAGEDKV_TRACES"), state.options.traces
        self._folder = here / named if named else state.root / ini if ini else None
        self._seed = seed
        self._kept: dict[tuple[object, ...], Trace] = {}

    def get(self, name: str, **options: Any) -> Trace:
        """The trace of this name. A test whose trace file is not there is skipped.

        Args:
            name: a file's name without its ending, or "generated:" and the name of a preset.
            **options: those of `read_trace` or of `generate`.
        """
        key = (name, *sorted(options.items()))
        if key not in self._kept:
            self._kept[key] = self._made(name, options)
        return self._kept[key]

    def _made(self, name: str, options: dict[str, Any]) -> Trace:
        if name.startswith(_GENERATED):
            return generate(name.removeprefix(_GENERATED), **{"seed": self._seed} | options)
        return read_trace(self._find(name), **options)

    def _find(self, name: str) -> Path:
        if self._folder is None:
            pytest.skip(f"trace {name}: no folder of traces is named; set PAGEDKV_TRACES")
        paths = [self._folder / (name + ending) for ending in _ENDINGS]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            pytest.skip(f"trace {name}: not in {self._folder} (as {', '.join(_ENDINGS)})")
        return found

"""The ranges of an engine that a profiler sees, by the names of docs/tracing.md."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.profiler import built_profiler

pytest.importorskip("torch", reason="a model is run; torch is not installed")
pytest.importorskip("transformers", reason="a model is run; transformers is not installed")

PROGRAM = """
import sys
from pathlib import Path

import torch

from pagedkv import CacheConfig, Engine, OffloadConfig, SamplingParams
from tests.models import tiny

torch.set_num_threads(1)
folder = Path(sys.argv[1])
tiny.save(tiny.config("llama"), folder / "model")
(folder / "pages").mkdir()
tiers = OffloadConfig(
    pinned_bytes=8 * 4096, nvme_path=folder / "pages", nvme_bytes=2**20, prefetch_blocks=0
)
cache = CacheConfig(num_blocks=24, block_size=4)
params = SamplingParams(max_tokens=4, n=2, temperature=1.0, seed=1)
for offload in (None, tiers):
    with Engine.from_pretrained(folder / "model", cache=cache, offload=offload, device="cpu") as engine:
        for number in range(12):
            engine.generate([[number % 6 + 1] * 42], params)
"""
IN_A_STEP = ["copies", "inputs", "forward", "sample"]
TIERS = ["offload store", "offload load", "offload spill", "offload fetch", "offload await store"]
STEP = ["schedule", "execute", "detokenize", "commit", "deliver"]


def nested(rows: list[list[str]]) -> Iterator[tuple[str, str]]:
    """Each range with the one around it, in the order in which they begin."""
    inside: list[str] = [""]
    for _, what, domain, message in rows:
        if domain != "pagedkv":
            continue
        if what == "pop":
            inside.pop()
        else:
            yield message, inside[-1]
            inside.append(message)


def test_every_phase_is_a_range(tmp_path: Path) -> None:
    """Steps are made of phases in their order; copies of pages have ranges where they are begun and done."""
    environment = os.environ | built_profiler(tmp_path)
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, check=True, timeout=120)

    rows = [line.split("\t") for line in (tmp_path / "notes.tsv").read_text().splitlines()]
    names = {message for _, what, _, message in rows if what == "push"}
    assert names >= {"intake", *STEP, *IN_A_STEP, *TIERS}
    first_page = next(place for place, row in enumerate(rows) if row[3].startswith("offload"))
    found = list(nested(rows[:first_page]))  # from there on, threads write between them
    assert {outer for name, outer in found if name in IN_A_STEP} == {"execute"}
    steps = [name for name, outer in found if not outer and name != "intake"]
    assert len(steps) > 40
    assert steps == len(steps) // len(STEP) * STEP

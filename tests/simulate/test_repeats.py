"""A simulation is the same in every process and on every machine."""

import hashlib
import json
import os
import subprocess
import sys

from pagedkv.config import CacheConfig
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.traces import generate

FIELDS = (
    "steps",
    "makespan_ns",
    "ttft_p99_ns",
    "inter_token_p99_ns",
    "preemptions",
    "recomputed_tokens",
    "cow_copies",
    "fragmentation_mean_ppm",
)


def golden() -> list[SimulationResult]:
    """Small runs that touch everything: hits, preemptions, samples, beams."""
    tight = CacheConfig(num_blocks=400, block_size=16)
    return [
        simulate(generate(preset, num_requests=30, seed=5, request_rate_per_s=20.0), cache=tight)
        for preset in ("chat", "code", "samples", "beams")
    ]


def digest(found: SimulationResult) -> str:
    """All of a result in a few characters."""
    everything = [found.as_dict(), found.over_time(), found.timeline_columns()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:16]


def test_results_are_those_that_they_always_were() -> None:
    """Golden numbers: no machine, no Python and no numpy changes them; a change of the scheduler may."""
    found = golden()

    assert [tuple(getattr(each, name) for name in FIELDS) for each in found] == GOLDEN
    assert [digest(each) for each in found] == DIGESTS


def test_other_processes_find_the_same() -> None:
    """Every number, series and timeline is the same under two other hash seeds."""
    program = "from tests.simulate.test_repeats import *; print([digest(each) for each in golden()])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert outputs == {str(DIGESTS)}


GOLDEN = [
    (2_984, 14_504_485_108, 26_962_714, 4_574_461, 0, 0, 0, 7_926),
    (370, 2_502_623_383, 1_039_296_605, 40_658_546, 0, 0, 0, 7_936),
    (2_103, 10_333_394_871, 6_821_533_145, 19_212_373, 48, 26_659, 207, 23_191),
    (1_225, 6_056_041_621, 151_420_880, 11_224_344, 4, 2_010, 1_309, 34_595),
]
DIGESTS = [
    "dd7c84ecb486cd63",
    "fc9a0d82e79c554f",
    "354ab9d93eb55f0c",
    "57e0726c13ef4127",
]

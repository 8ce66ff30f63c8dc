"""Run files to report on, as `pytest --pagedkv-perf` leaves them, from a seed."""

import math
import random
from typing import Any

SUITES = ("churn", "decode", "fork", "prefix", "replay", "truncate", "offload")


def run_file(*benchmarks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A run with these benchmarks; each has its name under "key"."""
    found = {each["key"]: {k: v for k, v in each.items() if k != "key"} for each in benchmarks}
    run: dict[str, Any] = {
        "schema": "pagedkv-run/1",
        "finished": "2026-11-23T17:39:20+00:00",
        "command": ["pytest", "--pagedkv-perf", "--pagedkv-against=origin/main"],
        "exit_code": 10 if any(each.get("failed_gate") for each in benchmarks) else 0,
        "python": "3.11.9",
        "platform": "Linux-6.1-x86_64-with-glibc2.36",
        "hash_seeds": ["random", "0"],
        "seed": 0,
        "environment": {
            "slug": "cpu-epyc-zen3_py3.11",
            "fields": {"cpu": "AMD EPYC 7763", "cpu_count": 2, "python": "3.11", "gpu": None},
        },
        "baselines": "perf_baselines",
        "against": {
            "base": "origin/main@abc1234",
            "head": "def5678 with local changes",
            "rounds": 30,
            "confirm_pairs": 4,
            "seconds": 41.2,
            "is_selftest": False,
        },
        "benchmarks": found,
        "stale": [],
        "notes": [],
        "errors": [],
    }
    return run | changes


def benchmark(key: str = "tests/perf/test_a.py::test_a", **changes: Any) -> dict[str, Any]:
    """A benchmark that passed, with counters that are as they are stored and nothing timed."""
    plain: dict[str, Any] = {
        "key": key,
        "nodeid": key,
        "file": key.partition("::")[0],
        "line": 12,
        "outcomes": {"setup": "passed", "call": "passed", "teardown": "passed"},
        "metric": "cpu",
        "threshold": 0.07,
        "group": "allocator",
        "verdict": "same",
        "failed_gate": False,
        "counters": {"blocks_allocated": 640, "cow_copies": 12},
        "baseline": {"blocks_allocated": 640, "cow_copies": 12},
        "counters_verdict": "same",
        "details": [],
        "timing": None,
        "stored": None,
        "duet": None,
    }
    return plain | changes


def failed(key: str = "tests/perf/test_a.py::test_slow", **changes: Any) -> dict[str, Any]:
    """A benchmark that became slower, copies more, and failed for it."""
    outcomes = {"setup": "passed", "call": "failed", "teardown": "passed"}
    plain: dict[str, Any] = {
        "outcomes": outcomes,
        "verdict": "worse",
        "failed_gate": True,
        "counters": {"blocks_allocated": 640, "cow_copies": 128},
        "baseline": {"blocks_allocated": 640},
        "counters_verdict": "worse",
        "details": ["cow_copies 0 -> 128 (worse)"],
        "duet": duet(effect=0.121, verdict="worse", num_confirm=4),
    }
    return benchmark(key, **(plain | changes))


def duet(
    effect: float = 0.0,
    *,
    verdict: str = "same",
    num_confirm: int = 0,
    seed: int = 1,
    base_ns: float = 652_000.0,
    spread: float = 0.02,
    **changes: Any,
) -> dict[str, Any]:
    """A duet in which the head is that much slower; rounds scatter, and now and then one is far off."""
    noise = random.Random(seed)  # noqa: S311 # not a secret
    stages = ["screen"] + ["confirm"] * num_confirm
    pairs = [_pair(stage, effect, base_ns, spread, noise) for stage in stages]
    plain: dict[str, Any] = {
        "verdict": verdict,
        "detail": "",
        "metric": "cpu",
        "threshold": 0.07,
        "effect": effect,
        "low": effect - spread * 0.7,
        "high": effect + spread * 0.7,
        "base_ns": base_ns,
        "head_ns": base_ns * (1 + effect),
        "num_calls": 4,
        "base_counters": None,
        "meters": {
            "python_calls": [1204, 1204 if verdict == "same" else round(1204 * (1 + effect))],
            "peak_host_bytes": [81_920, 81_920],
        },
        "pairs": pairs,
    }
    return plain | changes


def _pair(stage: str, effect: float, base_ns: float, spread: float, noise: random.Random) -> dict[str, Any]:
    base, head = [], []
    own = math.exp(noise.gauss(0, spread / 3))
    for _ in range(30):
        load = math.exp(noise.gauss(0, 0.05)) * (1.8 if noise.random() < 0.04 else 1.0)
        base.append(round(base_ns * load * math.exp(noise.gauss(0, spread)), 1))
        far = 1.7 if noise.random() < 0.01 else 1.0
        head.append(round(base_ns * load * (1 + effect) * own * far * math.exp(noise.gauss(0, spread)), 1))
    return {"stage": stage, "hash_seed": str(noise.randrange(2**32)), "base_ns": base, "head_ns": head}


def stored(ratio: float = 1.02, *, num_runs: int = 10, seed: int = 1, **changes: Any) -> dict[str, Any]:
    """A stored timing with its history."""
    noise = random.Random(seed)  # noqa: S311 # not a secret
    plain: dict[str, Any] = {
        "verdict": "same",
        "detail": "",
        "ratio": ratio,
        "tolerance": 0.25,
        "centre": 9.4 * ratio,
        "baseline_centre": 9.4,
        "history": [round(9.4 * math.exp(noise.gauss(0, 0.04)), 3) for _ in range(num_runs)],
        "is_gated": True,
    }
    return plain | changes


def timing(median_ns: float = 13_700.0, seed: int = 1) -> dict[str, Any]:
    """A timing of this run alone."""
    noise = random.Random(seed)  # noqa: S311 # not a secret
    samples = [round(median_ns * math.exp(noise.gauss(0.02, 0.04)), 2) for _ in range(20)]
    middle = sorted(samples)[10]
    return {
        "metric": "cpu",
        "num_calls": 100,
        "best_ns": min(samples),
        "median_ns": middle,
        "samples_ns": samples,
    }


def passing_run() -> dict[str, Any]:
    """Two dozen benchmarks without a regression, one of them improved."""
    found = [
        benchmark(
            f"pytest_pagedkv/suite/test_{suite}.py::test_{suite}[{size}]",
            duet=duet(0.004 * (size % 5 - 2), seed=size, base_ns=900.0 * size**1.5),
            stored=stored(1 + 0.01 * (size % 7 - 3), seed=size),
            timing=timing(900.0 * size**1.5, seed=size),
        )
        for suite in SUITES[:6]
        for size in (1, 16, 64, 512)
    ]
    found[5] |= {"verdict": "better", "duet": duet(-0.083, verdict="better", num_confirm=4, seed=7)}
    return run_file(*found)


def failing_run() -> dict[str, Any]:
    """Something of everything."""
    wide = duet(0.02, verdict="too noisy", num_confirm=4, spread=0.12, metric="wall", threshold=0.10, seed=3)
    wide |= {"low": -0.09, "high": 0.14, "detail": "pair medians from -9.0% to +14.0%"}
    slow = stored(1.31, verdict="worse", detail="+31% [+22, +40]")
    return run_file(
        failed("tests/perf/test_alloc.py::test_churn[16]", stored=stored(1.12)),
        failed("tests/perf/test_alloc.py::test_slow", duet=None, stored=slow, verdict="worse"),
        failed(
            "tests/perf/test_fork.py::test_rows",
            verdict="changed",
            details=["rows 1 -> 2 (changed)"],
            duet=None,
        ),
        failed(
            "tests/perf/test_fork.py::test_luck",
            verdict="nondeterministic",
            details=["steps: 4 and 5"],
            duet=None,
        ),
        benchmark("tests/perf/test_b.py::test_b", outcomes={"setup": "failed"}, verdict=None, counters=None),
        benchmark("tests/perf/test_off.py::test_thrash", verdict="too noisy", metric="wall", duet=wide),
        benchmark(
            "tests/perf/test_p.py::test_hit",
            verdict="better",
            duet=duet(-0.31, verdict="better", num_confirm=4),
        ),
        benchmark("tests/perf/test_p.py::test_new", verdict="new", baseline=None, timing=timing()),
        benchmark(
            "tests/perf/test_p.py::test_gpu", verdict="incomparable", detail="driver 580 here, 570 there"
        ),
        benchmark(
            "tests/perf/test_p.py::test_skip", outcomes={"setup": "skipped"}, verdict=None, counters=None
        ),
        *(
            benchmark(f"tests/perf/test_q.py::test_{n}", duet=duet(0.01, seed=n), stored=stored(seed=n))
            for n in range(12)
        ),
        stale=["tests/perf/test_gone.py::test_old"],
        notes=["the base needs other requirements: numpy 2.1 there, 2.3 here; both ran in this environment"],
        exit_code=1,
    )


def large_run(number: int = 200) -> dict[str, Any]:
    """Many benchmarks, one in 25 failed."""
    found = [
        (failed if index % 25 == 0 else benchmark)(
            f"tests/perf/test_{SUITES[index % 7]}_{index // 28}.py::test_case[{index}-{'x' * (index % 13)}]",
            **({} if index % 25 == 0 else {"duet": duet(0.02 * math.sin(index), seed=index)}),
            stored=stored(seed=index),
            timing=timing(seed=index),
        )
        for index in range(number)
    ]
    return run_file(*found)

"""How much a machine spreads when it times code against itself: `.pagedkv-perf/selftest.json`.

It belongs to one environment and is not for git. A comparison on the same machine raises its thresholds to
three times what this file says.
"""

import json
from collections.abc import Mapping
from math import expm1, fsum
from pathlib import Path

from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.fingerprint import Fingerprint, mismatches
from pytest_pagedkv.baselines.folder import write_atomic

__all__ = ["read_spreads", "spread_of", "write_spreads"]

_SCHEMA = "pagedkv-selftest/1"


def spread_of(result: DuetResult) -> float | None:
    """Root mean square of the pair medians, in log ratios: what they spread about zero, where they belong.

    Args:
        result: of timing code against itself. None is returned if it could not be timed.
    """
    medians = [pair.median for pair in (result.screen, *result.confirm) if pair is not None]
    return (fsum(value**2 for value in medians) / len(medians)) ** 0.5 if medians else None


def write_spreads(path: Path, environment: Fingerprint, results: Mapping[str, DuetResult]) -> str:
    """Keep what a self-test found, besides what earlier ones found of other benchmarks here.

    Returns:
        What was found, in a line.

    Raises:
        OSError: the file cannot be written.
    """
    found = {key: spread for key, result in results.items() if (spread := spread_of(result)) is not None}
    known, _ = read_spreads(path, environment)
    lines = {key: float(f"{spread:.4g}") for key, spread in sorted((known | found).items())}
    data = {"schema": _SCHEMA, "environment": dict(environment.compared), "spreads": lines}
    write_atomic(path, json.dumps(data, indent=1) + "\n")
    if not found:
        return "self-test: nothing could be timed"
    worst = max(found, key=lambda key: found[key])
    return (
        f"self-test: pair medians spread by {expm1(min(found.values())):.1%} to {expm1(found[worst]):.1%} "
        f"({worst}); thresholds here are at least three times that"
    )


def read_spreads(path: Path, environment: Fingerprint) -> tuple[dict[str, float], str]:
    """What a self-test found on this machine.

    Returns:
        The spreads by benchmark, in log ratios, and why there are none although there is a file, or "".
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        known = {_SCHEMA: data}[data["schema"]]
        differing = mismatches(environment.compared, known["environment"])
        spreads = {str(key): float(value) for key, value in data["spreads"].items()}
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        remedy = "`pytest --pagedkv-perf --pagedkv-selftest` writes it anew"
        return {}, f"{path.name} cannot be used ({type(error).__name__}: {error}); {remedy}"
    if differing:
        return {}, f"{path.name} is of another environment ({'; '.join(differing)}) and is not used"
    return spreads, ""

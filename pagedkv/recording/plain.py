"""A record as values that JSON knows, and back; what comes back is looked at field by field."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from pagedkv.errors import RecordError
from pagedkv.pitfalls import Advice, Finding, Pitfall, Severity, Source
from pagedkv.recording.bins import BinnedSteps
from pagedkv.recording.histogram import Distribution
from pagedkv.recording.looks import CELL_STATES, LOOK_COLUMNS, REF_COUNTS, ROUTES, Looks
from pagedkv.recording.run import DISTRIBUTIONS, Episode, RunRecord
from pagedkv.stats import COLUMNS

__all__ = ["SCHEMA", "as_plain", "from_plain"]

SCHEMA = "pagedkv-engine-run/1"
"""What the file says it is. Versions are additive: one of a newer version is refused."""

T = TypeVar("T")
_PERCENTS = (50, 90, 99)


def as_plain(record: RunRecord) -> dict[str, Any]:
    """The document."""
    return {
        "schema": SCHEMA,
        "about": dict(record.about),
        "settings": {name: None if each is None else dict(each) for name, each in record.settings.items()},
        "num_steps": record.num_steps,
        "num_examined": record.num_examined,
        "start_ns": record.start_ns,
        "stop_ns": record.stop_ns,
        "totals": {name: record.steps.total(name) for name in COLUMNS if name != "now_ns"},
        "findings": [each.as_dict() for each in record.findings],
        "timeline": [_episode(each) for each in record.timeline],
        "distributions": {name: _distribution(each) for name, each in record.distributions.items()},
        "steps": asdict(record.steps),
        "looks": asdict(record.looks),
    }


def from_plain(plain: object) -> RunRecord:
    """The record that a document tells of.

    Raises:
        RecordError: it is no such document, of another version, or damaged.
    """
    document = _object(plain, "the file")
    _require_schema(document.get("schema"))
    settings = _object(_get(document, "settings"), "settings")
    distributions = _object(_get(document, "distributions"), "distributions")
    record = RunRecord(
        about=_object(_get(document, "about"), "about"),
        settings={
            name: None if settings.get(name) is None else _object(settings[name], name)
            for name in ("cache", "scheduler", "offload")
        },
        num_examined=_int(_get(document, "num_examined"), "num_examined"),
        steps=_steps(_object(_get(document, "steps"), "steps")),
        looks=_looks(_object(_get(document, "looks"), "looks")),
        distributions={
            name: _distribution_of(_object(_get(distributions, name), name)) for name in DISTRIBUTIONS
        },
        findings=_list_of(_finding, _get(document, "findings"), "findings"),
        timeline=_list_of(_episode_of, _get(document, "timeline"), "timeline"),
    )
    cache = record.settings["cache"] or {}
    for name in ("num_blocks", "block_size"):
        _int(_get(cache, name), name)
    return record


def _require_schema(schema: object) -> None:
    if schema == SCHEMA:
        return
    told = ascii(schema)[:60]
    name, _, version = SCHEMA.rpartition("/")
    if re.fullmatch(rf"{name}/[1-9][0-9]*", str(schema), re.ASCII):
        raise RecordError(
            f"schema is {told}, and this version of pagedkv reads version {version}: upgrade it"
        )
    raise RecordError(f"schema is {told}, which is no run of an engine; that of one is {SCHEMA!r}")


# ---- to plain values


def _episode(each: Episode) -> dict[str, Any]:
    return {
        "start_step": each.start_step,
        "stop_step": each.stop_step,
        "start_ns": each.start_ns,
        "stop_ns": each.stop_ns,
        "finding": each.finding.as_dict(),
    }


def _distribution(each: Distribution) -> dict[str, Any]:
    percentiles = {f"p{percent}": each.percentile(percent) for percent in _PERCENTS}
    numbers = asdict(each)
    lists = {name: numbers.pop(name) for name in ("bins", "widths", "counts")}
    return numbers | percentiles | lists


# ---- and back


def _steps(plain: Mapping[str, Any]) -> BinnedSteps:
    num_steps = _ints(_get(plain, "num_steps"), "num_steps")
    sums, maxima = (
        _columns(_get(plain, name), COLUMNS, f"steps.{name}", len(num_steps)) for name in ("sums", "maxima")
    )
    return BinnedSteps(num_steps=num_steps, sums=sums, maxima=maxima)


def _looks(plain: Mapping[str, Any]) -> Looks:
    cells = _get(plain, "cells")
    if not isinstance(cells, list) or not all(isinstance(each, str) for each in cells):
        raise RecordError("looks.cells should be a list of texts")
    if {*"".join(cells)} - CELL_STATES.keys() or len({*map(len, cells)}) > 1:
        raise RecordError(f"looks.cells should be texts of one length, of {' '.join(CELL_STATES)}")
    moved = _object(_get(plain, "moved_bytes"), "looks.moved_bytes")
    return Looks(
        columns=_columns(_get(plain, "columns"), LOOK_COLUMNS, "looks.columns", len(cells)),
        cells=cells,
        ref_counts=_columns(_get(plain, "ref_counts"), REF_COUNTS, "looks.ref_counts", len(cells)),
        moved_bytes=_columns(moved, ROUTES, "looks.moved_bytes", len(cells)) if moved else {},
    )


def _distribution_of(plain: Mapping[str, Any]) -> Distribution:
    numbers = {name: _int(_get(plain, name), name) for name in ("count", "total", "lowest", "highest")}
    lists = {name: _ints(_get(plain, name), name) for name in ("bins", "widths", "counts")}
    if len({*map(len, lists.values())}) > 1 or sum(lists["counts"]) != numbers["count"]:
        raise RecordError("a distribution has bins, widths and counts that do not belong together")
    return Distribution(**numbers, **lists)  # type: ignore[arg-type]


def _episode_of(plain: object) -> Episode:
    each = _object(plain, "timeline")
    names = ("start_step", "stop_step", "start_ns", "stop_ns")
    numbers = {name: _int(_get(each, name), name) for name in names}
    return Episode(**numbers, finding=_finding(_get(each, "finding")))


def _finding(plain: object) -> Finding:
    each = _object(plain, "a finding")
    try:
        return Finding(
            pitfall=Pitfall(each["pitfall"]),
            severity=Severity[str(each["severity"]).upper()],
            summary=str(each["summary"]),
            evidence={str(name): float(value) for name, value in each["evidence"].items()},
            advice=tuple(Advice(str(one["change"]), str(one["effect"])) for one in each["advice"]),
            sources=tuple(
                Source(str(one["file"]), int(one["line"]), str(one["text"])) for one in each["sources"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"a finding is damaged ({type(error).__name__}: {error})") from error


def _get(plain: Mapping[str, Any], name: str) -> Any:
    if name not in plain:
        raise RecordError(f"{name} is missing")
    return plain[name]


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"{name} should be a JSON object, and is {ascii(value)[:40]}")
    return value


def _int(value: object, name: str) -> int:
    if type(value) is not int:
        raise RecordError(f"{name} should be an integer, and is {ascii(value)[:40]}")
    return value


def _ints(value: object, name: str) -> list[int]:
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise RecordError(f"{name} should be a list of integers")
    return value


def _columns(value: object, names: Iterable[str], what: str, length: int) -> dict[str, list[int]]:
    """Columns of these names; those of later versions are left out."""
    plain = _object(value, what)
    found = {name: _ints(_get(plain, name), f"{what}.{name}") for name in names}
    for name, column in found.items():
        if len(column) != length:
            raise RecordError(f"{what}.{name} has {len(column)} values, and should have {length}")
    return found


def _list_of(parse: Callable[[object], T], value: object, name: str) -> list[T]:
    if not isinstance(value, list):
        raise RecordError(f"{name} should be a list")
    return [parse(each) for each in value]

"""Findings that a document has already: detectors looked at its steps, which is more than its sums say."""

from collections.abc import Mapping
from typing import Any

from pagedkv.doctor.readers.fields import number_in, table_in
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["told_findings"]


def told_findings(plain: Mapping[str, Any], file: str) -> list[Finding] | None:
    """What detectors said of a run; None if they did not look. Entries that are no findings are left out."""
    listed = plain.get("findings")
    if not isinstance(listed, list):
        return None
    found = (_finding(each, file) for each in listed if isinstance(each, dict))
    return [each for each in found if each is not None]


def _finding(plain: Mapping[str, Any], file: str) -> Finding | None:
    try:
        pitfall = Pitfall(str(plain.get("pitfall")))
        severity = Severity[str(plain.get("severity")).upper()]
    except (ValueError, KeyError):
        return None
    evidence, advice = table_in(plain, "evidence"), plain.get("advice")
    return Finding(
        pitfall=pitfall,
        severity=severity,
        summary=str(plain.get("summary", "")),
        evidence={name: number_in(evidence, name) for name in evidence},
        advice=tuple(
            Advice(str(each.get("change", "")), str(each.get("effect", "")))
            for each in (advice if isinstance(advice, list) else ())
            if isinstance(each, dict)
        ),
        sources=(Source(file, 0, "findings"),),
    )

"""Results of `pagedkv replay --mode simulated --json` and `pagedkv pitfalls NAME --json`."""

from collections.abc import Mapping
from typing import Any

from pagedkv.doctor.readers.fields import number_in
from pagedkv.doctor.readers.told import told_findings
from pagedkv.doctor.thresholds import StateThresholds
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["judge_simulation"]


def judge_simulation(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> list[Finding] | None:
    """What detectors said, and whether many requests lost their blocks; None if it is no result."""
    told = told_findings(plain, file)
    if told is None:
        return None
    if any(each.pitfall is Pitfall.BATCH_COLLAPSE for each in told):
        return told
    lost = _preemption(plain, file, limits)
    return told if lost is None else [*told, lost]


def _preemption(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    preemptions, requests = number_in(plain, "preemptions"), number_in(plain, "requests")
    ratio = preemptions / requests if requests else 0.0
    if preemptions < limits.preempted_requests or ratio < limits.preemption_ratio:
        return None
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if ratio >= limits.critical_preemption_ratio else Severity.WARNING,
        summary=f"requests lost their blocks {preemptions:,.0f} times, {ratio:.2f} for each, "
        f"and {number_in(plain, 'recomputed_tokens'):,.0f} tokens were computed again",
        evidence={
            "preemptions": preemptions,
            "preemptions_limit": limits.preempted_requests,
            "preemptions_per_request": ratio,
            "preemptions_per_request_limit": limits.preemption_ratio,
            "recomputed_tokens": number_in(plain, "recomputed_tokens"),
            "max_waiting": number_in(plain, "max_waiting"),
        },
        advice=(
            Advice("--adaptive-batch-size", "after preemptions only as many run as the pool has room for"),
            Advice("a larger --num-blocks", "more sequences have room to end"),
        ),
        sources=(Source(file, 0, "preemptions"),),
    )

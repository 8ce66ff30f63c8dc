"""Snapshots of engines: one moment."""

from collections.abc import Mapping
from typing import Any

from pagedkv.doctor.given import Unreadable
from pagedkv.doctor.readers.fields import number_in, table_in
from pagedkv.doctor.readers.told import told_findings
from pagedkv.doctor.thresholds import StateThresholds
from pagedkv.live import SCHEMA_VERSION
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["is_snapshot", "judge_snapshot"]


def is_snapshot(plain: Mapping[str, Any]) -> bool:
    """Whether these values are a snapshot, of any version."""
    return "schema_version" in plain and isinstance(plain.get("pool"), dict)


def judge_snapshot(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> list[Finding]:
    """What a snapshot shows: what detectors said of the last steps, and requests that have lost their blocks.

    Raises:
        Unreadable: it is of another version.
    """
    version = plain["schema_version"]
    if version != SCHEMA_VERSION:
        raise Unreadable(
            f"a snapshot of version {str(version)[:40]}; this pagedkv reads version {SCHEMA_VERSION}. "
            "Use the doctor of the pagedkv that wrote it"
        )
    found: tuple[Finding | None, ...]
    lost = _preemption(plain, file, limits)
    if (told := told_findings(plain, file)) is None:
        found = (_fragmentation(plain, file, limits), lost)
    elif any(each.pitfall is Pitfall.BATCH_COLLAPSE for each in told):
        return told
    else:
        found = (*told, lost)
    return [each for each in found if each is not None]


def _fragmentation(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    pool = table_in(plain, "pool")
    found = table_in(pool, "fragmentation")
    cache = table_in(table_in(plain, "config"), "cache")
    internal, excess = number_in(found, "internal_ratio"), number_in(found, "excess_ratio")
    num_blocks = number_in(pool, "num_blocks")
    free = number_in(pool, "num_free") / num_blocks if num_blocks else 1.0
    is_long = number_in(cache, "block_size") > 16 and internal >= limits.fragmentation_ratio
    if free > limits.short_pool_ratio or not (excess >= limits.excess_ratio or is_long):
        return None
    return Finding(
        pitfall=Pitfall.FRAGMENTATION,
        severity=Severity.CRITICAL if internal >= 1.5 * limits.fragmentation_ratio else Severity.WARNING,
        summary=f"{internal:.0%} of the slots in use hold nothing, and {free:.0%} of the pool is free",
        evidence={
            "internal_ratio": internal,
            "internal_ratio_limit": limits.fragmentation_ratio,
            "excess_ratio": excess,
            "excess_ratio_limit": limits.excess_ratio,
            "free_ratio": free,
            "free_ratio_limit": limits.short_pool_ratio,
            "wasted_slots": number_in(found, "num_wasted_slots"),
        },
        advice=(
            Advice(
                f"block_size=16 (now {number_in(cache, 'block_size'):.0f})",
                "a sequence wastes half a block on average",
            ),
            Advice("prefix_caching=True", "equal prefixes share their blocks"),
        ),
        sources=(Source(file, 0, "pool.fragmentation"),),
    )


def _preemption(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    listed = plain.get("requests")
    requests = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    preempted = [each for each in requests if number_in(each, "num_preemptions")]
    if len(preempted) < limits.preempted_requests:
        return None
    ratio = len(preempted) / len(requests)
    if ratio < limits.preemption_ratio:
        return None
    lost = sum(number_in(each, "num_lost_tokens") for each in preempted)
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if ratio >= limits.critical_preemption_ratio else Severity.WARNING,
        summary=f"{len(preempted):,} of {len(requests):,} live requests have lost their blocks, "
        f"and {lost:,.0f} computed tokens with them",
        evidence={
            "preempted_requests": len(preempted),
            "preempted_requests_limit": limits.preempted_requests,
            "requests": len(requests),
            "preempted_ratio": ratio,
            "preempted_ratio_limit": limits.preemption_ratio,
            "lost_tokens": lost,
        },
        advice=(
            Advice("adaptive_batch_size=True", "after preemptions only as many run as the pool has room for"),
            Advice(
                "a larger num_blocks, a higher watermark_ratio or a smaller max_running",
                "fewer lose their blocks",
            ),
        ),
        sources=(Source(file, 0, "requests"),),
    )

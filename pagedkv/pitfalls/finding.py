"""What a detector says: which pitfall, how bad, by which numbers, and what to change."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

__all__ = ["Advice", "Finding", "Pitfall", "Severity", "Source"]


class Pitfall(StrEnum):
    """The five ways in which a paged KV cache goes wrong without being wrong."""

    FRAGMENTATION = "fragmentation"
    COW_EXPLOSION = "cow_explosion"
    BATCH_COLLAPSE = "batch_collapse"
    OFFLOAD_THRASH = "offload_thrash"
    LATENCY_SPIKE = "latency_spike"


class Severity(IntEnum):
    """How much it costs: a `WARNING` some of the throughput or latency, a `CRITICAL` one most of it."""

    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to change.

    Attributes:
        change: what, by the name of the setting: "block_size=16 (now 256)".
        effect: what to expect of it, with numbers where they follow from the evidence.
    """

    change: str
    effect: str


@dataclass(frozen=True, slots=True)
class Source:
    """A place where something was seen.

    Attributes:
        file: name of the file, as it was given.
        line: number of the line, from 1; of a trace, that of the event; 0 for the file as a whole.
        text: what stands there.
    """

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A pitfall that was seen.

    Attributes:
        pitfall: which.
        severity: how bad.
        summary: one sentence with the number that matters.
        evidence: numbers by name, those of the thresholds that they crossed included.
        advice: what to change, best first.
        sources: lines that show it, where it was read from files.
    """

    pitfall: Pitfall
    severity: Severity
    summary: str
    evidence: Mapping[str, float]
    advice: tuple[Advice, ...]
    sources: tuple[Source, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding as values that JSON knows."""
        return {
            "pitfall": self.pitfall.value,
            "severity": self.severity.name.lower(),
            "summary": self.summary,
            "evidence": dict(self.evidence),
            "advice": [{"change": each.change, "effect": each.effect} for each in self.advice],
            "sources": [{"file": each.file, "line": each.line, "text": each.text} for each in self.sources],
        }

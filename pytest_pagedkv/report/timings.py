"""What clocks say in a run file: of a run alone, against stored timings, against another commit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_pagedkv.report import plain

__all__ = ["Against", "Duet", "Pair", "Stored", "Timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """How base and head were compared.

    Attributes:
        base: what the base is, such as "origin/main@abc1234".
        head: what was compared with it.
        rounds: rounds in a pair.
        confirm_pairs: fresh pairs for what looked suspicious.
        seconds: how long it took.
        is_selftest: base and head are the same code.
    """

    base: str
    head: str
    rounds: int | None
    confirm_pairs: int | None
    seconds: float | None
    is_selftest: bool

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Against":
        """Out of the run file."""
        return cls(
            base=plain.text(value.get("base")),
            head=plain.text(value.get("head")),
            rounds=plain.integer(value.get("rounds")),
            confirm_pairs=plain.integer(value.get("confirm_pairs")),
            seconds=plain.number(value.get("seconds")),
            is_selftest=plain.flag(value.get("is_selftest")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two worker processes that took turns.

    Attributes:
        stage: "screen" or "confirm".
        hash_seed: PYTHONHASHSEED of both.
        base_ns: time of one call on the base, round by round.
        head_ns: time of one call on the head, in the same rounds; as many.
    """

    stage: str
    hash_seed: str
    base_ns: tuple[float, ...]
    head_ns: tuple[float, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Pair":
        """Out of the run file; rounds without a counterpart are left out."""
        base, head = plain.positives(value.get("base_ns")), plain.positives(value.get("head_ns"))
        num_rounds = min(len(base), len(head))
        return cls(
            stage="confirm" if value.get("stage") == "confirm" else "screen",
            hash_seed=plain.hash_seed(value.get("hash_seed")),
            base_ns=base[:num_rounds],
            head_ns=head[:num_rounds],
        )

    @property
    def changes(self) -> tuple[float, ...]:
        """Relative change of time, head against base, round by round."""
        return tuple(head / base - 1 for base, head in zip(self.base_ns, self.head_ns, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duet:
    """Timing of one benchmark against another commit.

    Attributes:
        verdict: "worse", "better", "same", "too noisy" or another word of the gate.
        detail: the gate's line about it, or "".
        metric: which clock.
        threshold: relative change above which the gate fails.
        effect: relative change of time, head against base; None if not judged.
        low: lowest median of the confirming pairs; if there are none, lower end of the screening pair's 95%
            interval.
        high: highest, or upper end.
        base_ns: time of one call on the base.
        head_ns: time of one call on the head.
        num_calls: calls in a round.
        accepted: relative change that is accepted; None if none is.
        reason: why, or "".
        base_counters: what the base counted.
        meters: other integer measures, (base, head) by name.
        pairs: what was measured, in its order.
    """

    verdict: str
    detail: str
    metric: str
    threshold: float | None
    effect: float | None
    low: float | None
    high: float | None
    base_ns: float | None
    head_ns: float | None
    num_calls: int | None
    accepted: float | None
    reason: str
    base_counters: dict[str, int] | None
    meters: dict[str, tuple[int, int]]
    pairs: tuple[Pair, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Duet":
        """Out of the run file."""
        found = (Pair.from_plain(plain.mapping(each)) for each in plain.items(value.get("pairs")))
        accepted = plain.mapping(value.get("accepted"))
        return cls(
            verdict=plain.verdict(value.get("verdict")),
            detail=plain.text(value.get("detail")),
            metric=plain.metric(value.get("metric")),
            threshold=plain.number(value.get("threshold")),
            effect=plain.number(value.get("effect")),
            low=plain.number(value.get("low")),
            high=plain.number(value.get("high")),
            base_ns=plain.number(value.get("base_ns")),
            head_ns=plain.number(value.get("head_ns")),
            num_calls=plain.integer(value.get("num_calls")),
            accepted=plain.number(accepted.get("slower")),
            reason=plain.text(accepted.get("reason")),
            base_counters=plain.counts(value.get("base_counters")),
            meters=_meters(plain.mapping(value.get("meters"))),
            pairs=tuple(pair for pair in found if pair.base_ns),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Timing of one benchmark against its stored history.

    Times of the CPU are multiples of the reference workload's, those of a GPU nanoseconds.

    Attributes:
        metric: which clock.
        verdict: the gate's word.
        detail: its line, or "".
        tolerance: relative change above which it is worse.
        centre: this run.
        baseline_centre: what is stored.
        history: earlier runs, oldest first.
        is_gated: a test fails for it; else it only advises.
    """

    metric: str
    verdict: str
    detail: str
    ratio: float | None
    tolerance: float | None
    centre: float | None
    baseline_centre: float | None
    history: tuple[float, ...]
    is_gated: bool

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Stored":
        """Out of the run file."""
        return cls(
            verdict=plain.verdict(value.get("verdict")),
            detail=plain.text(value.get("detail")),
            metric=plain.metric(value.get("metric")),
            ratio=plain.number(value.get("ratio")),
            tolerance=plain.number(value.get("tolerance")),
            centre=plain.number(value.get("centre")),
            baseline_centre=plain.number(value.get("baseline_centre")),
            history=plain.positives(value.get("history")),
            is_gated=plain.flag(value.get("is_gated")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time of one call in this run alone, one sample a round."""

    metric: str
    num_calls: int | None
    samples_ns: tuple[float, ...]

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> "Timing":
        """Out of the run file."""
        return cls(
            metric=plain.metric(value.get("metric")),
            num_calls=plain.integer(value.get("num_calls")),
            samples_ns=plain.positives(value.get("samples_ns")),
        )


def _meters(value: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, sides in value.items():
        base, head = (
            map(plain.number, plain.items(sides)[:2]) if len(plain.items(sides)) == 2 else (None, None)
        )
        if base is not None and head is not None:
            found[plain.text(name)] = (round(base), round(head))
    return found

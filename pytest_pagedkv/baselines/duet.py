"""Duet-confirm: the verdict on two commits whose processes took turns.

One pair of processes screens every benchmark; a suspicious one is judged by four fresh pairs, and the
screening is not used again. A duet in this sense is Bulej et al., "Duet Benchmarking" (ICPE 2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import expm1, log, log1p
from statistics import median
from typing import Any

from pytest_pagedkv.baselines.compare import Judgement, Verdict
from pytest_pagedkv.baselines.slower import Slowdown

__all__ = ["CONFIRM_PAIRS", "SCREEN_SHARE", "DuetResult", "Pair", "is_suspicious", "judge_duet"]

CONFIRM_PAIRS = 4
SCREEN_SHARE = 0.6
"""The screening passes what moved by at most this share of the threshold."""

_MIN_CONFIRMING = 3
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The rounds of one benchmark in one pair of processes.

    Attributes:
        hash_seed: PYTHONHASHSEED of both processes.
        base_ns: time of one call of the base, by round.
        head_ns: time of one call of the head in the same rounds.
    """

    hash_seed: str
    base_ns: tuple[float, ...]
    head_ns: tuple[float, ...]

    @property
    def log_ratios(self) -> list[float]:
        """log(head / base) of each round."""
        return [log(head / base) for base, head in zip(self.base_ns, self.head_ns, strict=True)]

    @property
    def median(self) -> float:
        """The log ratio in the middle."""
        return median(self.log_ratios)

    def interval(self) -> tuple[float, float]:
        """Bounds of the median's log ratio, with 95% confidence whatever the distribution (sign test)."""
        ordered = sorted(self.log_ratios)
        half = len(ordered) / 2
        rank = max(0, int(half - _NORMAL_95 * half**0.5 / 2**0.5))
        return ordered[rank], ordered[-1 - rank]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuetResult:
    """What came of timing one benchmark against its base.

    Attributes:
        judgement: the verdict, and in a line why, where it does not speak for itself; None if there is none.
        metric: the clock.
        threshold: the relative change that counted here.
        num_calls: calls of one batch.
        effect: relative change of the time, head against base; None if there are no pairs.
        low: the lower bound of the effect.
        high: the upper bound.
        screen: the rounds of the first pair.
        confirm: those of the pairs that judged a suspicion.
        counters: what the base counted; None if it did not run.
        meters: what was measured besides, of base and head.
        blocks: the judgement is a failure though it is no regression.
        accepted: the slowdown that is accepted of what is worse; None if none is.
    """

    judgement: Judgement | None
    metric: str
    threshold: float
    num_calls: int = 0
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    screen: Pair | None = None
    confirm: Sequence[Pair] = ()
    counters: dict[str, int] | None = None
    meters: dict[str, tuple[int, int]] = field(default_factory=dict)
    blocks: bool = False
    accepted: Slowdown | None = None

    def as_plain(self) -> dict[str, Any]:
        """As built-in types, all of it."""
        plain = asdict(self)
        if self.judgement is not None:
            plain["judgement"] = [str(self.judgement.verdict), list(self.judgement.details)]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "DuetResult":
        """Back from built-in types."""
        judgement, screen, accepted = plain["judgement"], plain["screen"], plain["accepted"]
        return cls(
            **{
                **plain,
                "judgement": judgement and Judgement(Verdict(judgement[0]), tuple(judgement[1])),
                "screen": screen and Pair(**screen),
                "confirm": tuple(Pair(**pair) for pair in plain["confirm"]),
                "meters": {name: tuple(both) for name, both in plain["meters"].items()},
                "accepted": accepted and Slowdown(**accepted),
            }
        )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Those that the effect rests on."""
        return tuple(self.confirm) or ((self.screen,) if self.screen else ())

    @property
    def base_ns(self) -> float | None:
        """Time of a call of the base; None if there are no pairs."""
        return median(value for pair in self.pairs for value in pair.base_ns) if self.pairs else None

    @property
    def head_ns(self) -> float | None:
        """Time of a call of the head; None if there are no pairs."""
        return median(value for pair in self.pairs for value in pair.head_ns) if self.pairs else None

    @property
    def is_worse(self) -> bool:
        """It is slower, whether that is accepted or not."""
        return self.judgement is not None and self.judgement.verdict is Verdict.WORSE

    @property
    def is_excused(self) -> bool:
        """It is slower, and by no more than is accepted."""
        if not self.is_worse or self.accepted is None or self.effect is None:
            return False
        return self.accepted.covers(self.effect, self.threshold)

    @property
    def fails(self) -> bool:
        """The benchmark is not to pass."""
        return self.blocks or (self.is_worse and not self.is_excused)


def is_suspicious(screen: Pair, threshold: float) -> bool:
    """The first pair gives reason for a closer look."""
    return abs(screen.median) > SCREEN_SHARE * log1p(threshold)


def judge_duet(
    screen: Pair,
    confirm: Sequence[Pair],
    *,
    metric: str,
    threshold: float,
    num_calls: int,
    counters: dict[str, int] | None = None,
    meters: Mapping[str, tuple[int, int]] | None = None,
) -> DuetResult:
    """The verdict on one benchmark.

    Args:
        screen: the rounds of the first pair.
        confirm: the fresh pairs; none if the first gave no reason for them.
        metric: the clock.
        threshold: the relative change that counts.
        num_calls: calls of one batch.
        counters: what the base counted.
        meters: what was measured besides, of base and head.
    """
    medians = [pair.median for pair in confirm] or [screen.median]
    low, high = (min(medians), max(medians)) if confirm else screen.interval()
    return DuetResult(
        judgement=_judgement(medians, log1p(threshold)) if confirm else Judgement(Verdict.SAME),
        metric=metric,
        threshold=threshold,
        num_calls=num_calls,
        effect=expm1(median(medians)),
        low=expm1(low),
        high=expm1(high),
        screen=screen,
        confirm=tuple(confirm),
        counters=counters,
        meters=dict(meters or {}),
    )


def _judgement(medians: Sequence[float], limit: float) -> Judgement:
    """Of the confirming pairs; where all say the same way, their spread does not matter."""
    spread = max(medians) - min(medians)
    is_unanimous = min(medians) > limit / 2 or max(medians) < -limit / 2
    if spread > 2 * limit and not is_unanimous:
        low, high = (f"{expm1(value):+.1%}" for value in (min(medians), max(medians)))
        return Judgement(Verdict.NOISY, (f"pair medians from {low} to {high}",))
    if _is_beyond(medians, limit):
        return Judgement(Verdict.WORSE)
    if _is_beyond([-value for value in medians], limit):
        return Judgement(Verdict.BETTER)
    return Judgement(Verdict.SAME)


def _is_beyond(medians: Sequence[float], limit: float) -> bool:
    return median(medians) > limit and sum(value > limit / 2 for value in medians) >= _MIN_CONFIRMING

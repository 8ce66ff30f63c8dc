"""Copy-on-write explosion: forks that copy more than they write."""

from dataclasses import dataclass

from pagedkv.checks import require_int, require_number
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity
from pagedkv.stats import StatsWindow

__all__ = ["CowExplosionThresholds", "detect_cow_explosion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CowExplosionThresholds:
    """When copies are too many.

    Args:
        amplification: slots that are copied for each token that is written. It does not depend on the size
            of the model or the speed of its device. Searches in blocks of 16 tokens copy about one for each,
            whatever their width, and cannot copy more than 16.
        critical_amplification: from which on it is critical: a copy reads and writes, so a step moves more
            than 20 tokens of KV for the one that it adds.
        min_copies: blocks copied; fewer say nothing.

    Raises:
        ConfigError: a number is out of range.
    """

    amplification: float = 2.5
    critical_amplification: float = 10.0
    min_copies: int = 32

    def __post_init__(self) -> None:
        for name in ("amplification", "critical_amplification"):
            require_number(name, getattr(self, name), 0, 10**9)
        require_int("min_copies", self.min_copies, 1)


def detect_cow_explosion(window: StatsWindow, thresholds: CowExplosionThresholds) -> Finding | None:
    """A finding if forks copy many more slots than tokens are written."""
    num_copies, num_written = window.total("num_copies"), window.total("num_written_tokens")
    size = window.cache.block_size
    amplification = num_copies * size / max(1, num_written)
    if num_copies < thresholds.min_copies or amplification <= thresholds.amplification:
        return None
    num_forks = window.total("num_forks")
    is_critical = amplification > thresholds.critical_amplification
    return Finding(
        pitfall=Pitfall.COW_EXPLOSION,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"{amplification:.1f} slots are copied for each token that is written",
        evidence={
            "amplification": round(amplification, 3),
            "amplification_threshold": thresholds.amplification,
            "num_copies": num_copies,
            "num_written_tokens": num_written,
            "shared_write_ratio": round(window.total("num_shared_writes") / max(1, num_written), 4),
            "num_forks": num_forks,
            "max_ref_count": int(window["max_ref_count"].max(initial=0)),
            "block_size": size,
        },
        advice=_advice(window, amplification),
    )


def _advice(window: StatsWindow, amplification: float) -> tuple[Advice, ...]:
    cache = window.cache
    found = [
        Advice(
            "a narrower beam_width, or fewer samples (n)",
            "copies fall with the number of forks: half the beams, about half the copies",
        )
    ]
    if cache.block_size > _USUAL:
        found.append(
            Advice(
                f"block_size={_USUAL} (now {cache.block_size})",
                f"a copy moves a block: {amplification * _USUAL / cache.block_size:.1f} slots for each token",
            )
        )
    if cache.fork_mode != "full_blocks":
        found.append(
            Advice(
                f'fork_mode="full_blocks" (now "{cache.fork_mode}")',
                f"no copies; each fork computes up to {cache.block_size - 1} tokens again instead",
            )
        )
    return tuple(found)


_USUAL = 16

"""A comparison with another commit in words."""

from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.report.wording import duration, interval, percent

__all__ = ["told_duet"]


def told_duet(duet: DuetResult) -> str:
    """Such as "cpu 652us -> 731us  +12.1% [+10.8, +13.5] (T 7%)"."""
    judgement, accepted = duet.judgement, duet.accepted
    details = "; ".join(judgement.details) if judgement else ""
    if duet.fails and accepted is not None:
        details = f"{accepted.slower:+.1%} is accepted ({accepted.reason}), and this is beyond"
    if duet.effect is None:
        return f"{duet.metric} not compared: {details}"
    times = f"{duration(duet.base_ns or 0)} -> {duration(duet.head_ns or 0)}"
    seen = f"{percent(duet.effect)} {interval(duet.low, duet.high)}"
    told = f"{duet.metric} {times}  {seen} (T {duet.threshold:.0%})"
    return f"{told}, {details}" if details else told

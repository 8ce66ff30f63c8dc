"""When which pitfall was there: detectors on windows that slide over a run."""

from typing import NamedTuple

from pagedkv.pitfalls.detect import detect
from pagedkv.pitfalls.finding import Finding, Pitfall
from pagedkv.pitfalls.thresholds import Thresholds
from pagedkv.stats import StatsWindow

__all__ = ["Stretch", "timeline"]


class Stretch(NamedTuple):
    """Steps of a run in which one pitfall was there.

    Attributes:
        start: place of the first step in the window.
        stop: place behind the last one.
        finding: the worst that was seen meanwhile, the first of equals.
    """

    start: int
    stop: int
    finding: Finding


def timeline(
    window: StatsWindow, thresholds: Thresholds | None = None, num_steps: int = 512
) -> list[Stretch]:
    """Findings over time: detectors look at so many steps at once, and each time go on by half as many.

    Looks that touch and have the same finding become one stretch. A stretch is as coarse as what is looked
    at. The last look reaches to the end of the window.

    Args:
        window: the run.
        thresholds: of the detectors.
        num_steps: steps that are looked at at once; at least 2.
    """
    stretches: list[Stretch] = []
    last: dict[Pitfall, int] = {}
    stride = max(1, num_steps // 2)
    for start in range(0, max(1, len(window) - stride), stride):
        stop = min(start + num_steps, len(window))
        for finding in detect(window.part(start, stop), thresholds):
            place = last.get(finding.pitfall)
            if place is not None and stretches[place].stop >= start:
                stretches[place] = _longer(stretches[place], stop, finding)
            else:
                last[finding.pitfall] = len(stretches)
                stretches.append(Stretch(start, stop, finding))
    return stretches


def _longer(stretch: Stretch, stop: int, finding: Finding) -> Stretch:
    worst = finding if finding.severity > stretch.finding.severity else stretch.finding
    return Stretch(stretch.start, stop, worst)

"""Slowdowns that are accepted: by name in this run, or by a line that the base of the comparison has not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.slower import Slowdown, Slowdowns
from pytest_pagedkv.perf.duet.checkout import Checkout
from pytest_pagedkv.report.run import PerfRun

__all__ = ["BaseLines", "accept_slowdowns", "changed_slowdowns", "lines_of_base"]


@dataclass(frozen=True, slots=True)
class BaseLines:
    """What the base has accepted.

    Attributes:
        slowdowns: its lines; None if nobody knows, and then no line of the head counts.
        problem: why nobody knows, or "".
    """

    slowdowns: Slowdowns | None
    problem: str = ""


def lines_of_base(baselines: Path, head: Checkout, base: Checkout) -> BaseLines:
    """Read them at the place in the base that the folder of baselines has in the head.

    Args:
        baselines: the folder of all kinds.
        head: the tree that pytest runs in.
        base: the other one, while it is there.
    """
    folder, top = baselines.resolve(), head.top.resolve()
    if not folder.is_relative_to(top):
        return BaseLines(
            None,
            f"{baselines} is outside of the tree that is compared: a slowdown that is accepted there counts "
            "in the run that accepts it, and not in later ones",
        )
    place = folder.relative_to(top)
    try:
        return BaseLines(Slowdowns(base.top / place, f"{base.shown}:{place.as_posix()}"))
    except BaselineError as error:
        return BaseLines(None, f"no accepted slowdown counts, because the base's cannot be read: {error}")


def accept_slowdowns(run: PerfRun, base: BaseLines) -> None:
    """Say in the results of a comparison what is accepted of them; `run.notes` says what is odd about it."""
    for key, duet in run.duets.items():
        if duet.is_worse and (accepted := _accepted(run, key, duet, base)) is not None:
            run.duets[key] = replace(duet, accepted=accepted)
    run.notes += _notes(run, base)


def changed_slowdowns(run: PerfRun) -> dict[str, Slowdown | None]:
    """The lines to write after the verdict: those accepted by name, and None where the test is gone."""
    passed = {key for key, result in run.results.items() if result.passed}
    changes: dict[str, Slowdown | None] = {}
    if run.options.update:
        changes |= {key: None for key in run.stale if run.slowdowns.get(key) is not None}
    return changes | {key: line for key, line in _named(run).items() if key in passed}


def _accepted(run: PerfRun, key: str, duet: DuetResult, base: BaseLines) -> Slowdown | None:
    if key in run.options.accept and duet.effect is not None:
        return Slowdown.of(duet.effect, run.options.reason or "")
    line = run.slowdowns.get(key)
    return line if base.slowdowns is not None and line != base.slowdowns.get(key) else None


def _named(run: PerfRun) -> Mapping[str, Slowdown]:
    """The new lines."""
    duets = {key: run.duets.get(key) for key in run.options.accept}
    return {key: duet.accepted for key, duet in duets.items() if duet is not None and duet.accepted}


def _notes(run: PerfRun, base: BaseLines) -> Iterator[str]:
    named = _named(run)
    if base.problem and (named or run.slowdowns.keys()):
        yield base.problem
    for key, line in named.items():
        if base.slowdowns is not None and line == base.slowdowns.get(key):
            yield f"{key}   the base has this very line, which excuses nothing later: give another reason"

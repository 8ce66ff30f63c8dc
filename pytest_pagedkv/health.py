"""What detectors find in the engines of a test, and how a test fails whose engines have to be healthy."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

import pytest

from pagedkv.pitfalls import Finding, Thresholds, detect
from pagedkv.stats import StatsWindow, StepLog
from pytest_pagedkv.marker import HealthyMark, healthy_mark

if TYPE_CHECKING:
    from pagedkv.engine import Engine

__all__ = ["WATCH", "Findings", "findings_for", "require_healthy"]

E = TypeVar("E", bound="Engine")
_MARK = "pagedkv_healthy"


class Findings(Sequence[Finding]):
    """What detectors say of the watched engines, as of now: a list that is looked at anew each time.

    Args:
        thresholds: above which numbers they speak.
        ignored: names of pitfalls that are left out.
    """

    def __init__(self, thresholds: Thresholds | None = None, ignored: Sequence[str] = ()) -> None:
        self._thresholds, self._ignored = thresholds, ignored
        self._logs: list[StepLog] = []
        self._detach: list[Callable[[], None]] = []

    def watch(self, engine: E) -> E:
        """Watch an engine from now on, and return it.

        Args:
            engine: on any clock, with any executor.
        """
        scheduler = engine.scheduler
        log = StepLog(scheduler.cache, scheduler=scheduler.config, offload=scheduler.offload)
        scheduler.events.attach(log)
        self._logs.append(log)
        self._detach.append(lambda: scheduler.events.detach(log))
        return engine

    def by_engine(self) -> list[tuple[StatsWindow, list[Finding]]]:
        """Of each watched engine, in the order in which they came: its steps, and what was found in them."""
        windows = [log.window() for log in self._logs]
        return [(window, self._found(window)) for window in windows]

    def stop(self) -> None:
        """Watch no engine any longer; what was found stays."""
        for detach in self._detach:
            detach()
        self._detach.clear()

    def __call__(self) -> list[Finding]:
        """All of them: those of the first engine, then those of the next; of each the worst first."""
        return [finding for _, findings in self.by_engine() for finding in findings]

    def __len__(self) -> int:
        """How many there are."""
        return len(self())

    def __iter__(self) -> Iterator[Finding]:
        return iter(self())

    @overload
    def __getitem__(self, place: int) -> Finding: ...
    @overload
    def __getitem__(self, place: slice) -> list[Finding]: ...
    def __getitem__(self, place: int | slice) -> Finding | list[Finding]:
        return self()[place]

    def __repr__(self) -> str:
        return repr(self())

    def _found(self, window: StatsWindow) -> list[Finding]:
        found = detect(window, self._thresholds)
        return [each for each in found if each.pitfall.value not in self._ignored]


WATCH = pytest.StashKey[Findings]()
"""On the tests whose engines are watched."""


def findings_for(item: pytest.Item) -> Findings:
    """Those of a test: with the thresholds of its marker, and without what that ignores."""
    mark = healthy_mark(item) or HealthyMark()
    return Findings(mark.thresholds, mark.ignore)


def require_healthy(item: pytest.Item) -> None:
    """Fail a test that has run if a pitfall was found in its engines, or if nothing ran in which to look."""
    watched = item.stash.get(WATCH, None)
    found = [] if watched is None else watched.by_engine()
    if not any(len(window) for window, _ in found):
        pytest.fail(_nothing_ran(len(found)), pytrace=False)
    sick = [(number, window, each) for number, (window, each) in enumerate(found, 1) if each]
    if sick:
        told = "\n\n".join(_told(number, len(found), window, each) for number, window, each in sick)
        pytest.fail(f"{told}\n\n{_advice(sick[0][2][0])}", pytrace=False)


def _nothing_ran(num_engines: int) -> str:
    what = "no engine was watched" if not num_engines else "the engines that were watched ran no step"
    return (
        f"{_MARK}: {what}, so that nothing is known of their health; make engines with pagedkv_engine(...), "
        "or watch yours with pagedkv_findings.watch(engine), and let them run"
    )


def _told(number: int, num_engines: int, window: StatsWindow, findings: Sequence[Finding]) -> str:
    which = f"engine {number} of {num_engines}, " if num_engines > 1 else ""
    many = f"{len(findings)} finding{'s' * (len(findings) != 1)}"
    head = f"{_MARK}: {many} in {which}{len(window):,} steps"
    return "\n".join([head, *(line for finding in findings for line in _lines(finding))])


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity.name} {finding.pitfall.value}: {finding.summary}"
    yield f"    evidence: {', '.join(f'{name} {value:g}' for name, value in finding.evidence.items())}"
    for number, each in enumerate(finding.advice, 1):
        yield f"    {number}. {each.change}: {each.effect}"


def _advice(finding: Finding) -> str:
    name = finding.pitfall.value
    return f'If this is meant: @pytest.mark.{_MARK}(ignore=("{name}",)), or other thresholds=.'

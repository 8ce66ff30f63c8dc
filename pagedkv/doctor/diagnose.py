"""Files in, findings out."""

from collections.abc import Callable, Sequence

from pagedkv.doctor.diagnosis import Diagnosis, FileReport
from pagedkv.doctor.given import GivenFile, Unreadable, open_given
from pagedkv.doctor.readers import Reader, readers
from pagedkv.doctor.thresholds import LogThresholds, StateThresholds, TimelineThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["diagnose"]

Progress = Callable[[int, int], None]


def diagnose(
    files: Sequence[str],
    *,
    progress: Progress | None = None,
    logs: LogThresholds | None = None,
    states: StateThresholds | None = None,
    timelines: TimelineThresholds | None = None,
) -> Diagnosis:
    """Read files of any kind that is known, each as a stream, and say what they show.

    Args:
        files: names; "-" is stdin.
        progress: called with bytes read and bytes that there are, for each file anew.
        logs: limits for logs.
        states: limits for snapshots and results of simulations.
        timelines: limits for timelines of a profiler.
    """
    known = readers(logs or LogThresholds(), states or StateThresholds(), timelines or TimelineThresholds())
    reports = tuple(_report(name, known, progress) for name in files)
    findings = [found for reader in known for found in reader.findings()]
    return Diagnosis(reports, tuple(sorted(findings, key=_rank)))


def _report(name: str, known: Sequence[Reader], progress: Progress | None) -> FileReport:
    try:
        given = open_given(name, progress)
    except Unreadable as error:
        return FileReport(file=name, error=str(error))
    try:
        return _read(given, known)
    except Unreadable as error:
        cut = f" ({given.cut_off})" if given.cut_off else ""
        return FileReport(file=given.name, num_bytes=given.num_bytes, error=f"{error}{cut}")
    finally:
        given.close()


def _read(given: GivenFile, known: Sequence[Reader]) -> FileReport:
    reader = next(each for each in known if each.accepts(given))
    report = reader.read(given)
    if not given.cut_off:
        return report
    notes = (*report.notes, given.cut_off)
    return FileReport(**{name: getattr(report, name) for name in FileReport.__slots__} | {"notes": notes})


def _rank(finding: Finding) -> tuple[int, int]:
    """The worst first; of equals, what rests on more evidence lines."""
    return (-finding.severity, -len(finding.sources))

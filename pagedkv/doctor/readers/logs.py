"""Logs, of whichever program: all kinds of lines are looked for in each, for they may be mixed."""

from pagedkv.doctor.chunks import LONGEST_LINE, ChunkCutter
from pagedkv.doctor.diagnosis import FileReport
from pagedkv.doctor.given import GivenFile, Unreadable
from pagedkv.doctor.logs import log_kinds
from pagedkv.doctor.thresholds import LogThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["LogReader"]


class LogReader:
    """Reads logs; several of them are taken for parts of one, the oldest first."""

    def __init__(self, thresholds: LogThresholds) -> None:
        self._kinds = log_kinds(thresholds)

    def accepts(self, _given: GivenFile) -> bool:
        """Anything may be a log."""
        return True

    def read(self, given: GivenFile) -> FileReport:
        """Read a log.

        Raises:
            Unreadable: none of its lines is one that is known.
        """
        before = [(kind.num_lines, kind.num_odd) for kind in self._kinds]
        cutter = ChunkCutter(given.name)
        for chunk in cutter.chunks(given.blocks()):
            for kind in self._kinds:
                kind.fold(chunk)
        new = [kind.num_lines - lines for kind, (lines, _) in zip(self._kinds, before, strict=True)]
        if not sum(new):
            raise Unreadable(_nothing_known(cutter.num_lines))
        return FileReport(
            file=given.name,
            kind=", ".join(kind.name for kind, number in zip(self._kinds, new, strict=True) if number),
            num_bytes=given.num_bytes,
            num_read=cutter.num_lines,
            num_understood=sum(new),
            num_odd=sum(kind.num_odd - odd for kind, (_, odd) in zip(self._kinds, before, strict=True)),
            notes=_notes(cutter),
        )

    def findings(self) -> list[Finding]:
        """What all logs together say."""
        return [found for kind in self._kinds for found in kind.findings()]


def _notes(cutter: ChunkCutter) -> tuple[str, ...]:
    if not cutter.num_long:
        return ()
    return (
        f"{cutter.num_long:,} lines are longer than {LONGEST_LINE // 1024} KiB; their beginning was read",
    )


def _nothing_known(num_lines: int) -> str:
    return (
        f"not a log of pagedkv, vLLM or SGLang: no line of {num_lines:,} matched. Accepted are these logs, "
        "engine snapshots, results of replay --mode simulated --json, torch.profiler traces and sqlite "
        "exports of nsys"
    )

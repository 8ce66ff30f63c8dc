"""What accepting benchmarks of a run comes to: which entries change, and how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.moves import moves
from pytest_pagedkv.baselines.commands.runfile import Measurement, RunFile
from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.kernels import Kernels
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.store import Baselines, Store
from pytest_pagedkv.baselines.timing import StoredResult, judge_timing, updated
from pytest_pagedkv.baselines.timing_schema import TimingEntry
from pytest_pagedkv.baselines.timing_store import Change, Timings
from pytest_pagedkv.baselines.versioned import comparable, kept

__all__ = ["Acceptance", "Facts"]


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is stored of one benchmark, and why.

    Attributes:
        is_new: no stored line changes, lines are added.
        details: the facts, one a line.
    """

    is_new: bool = True
    details: list[str] = field(default_factory=list)


class Acceptance:
    """A run on its way into a folder of baselines.

    Times are stored only where some of the run's environment are stored already: the first ones of a machine
    come from an update.

    Args:
        run_file: the run.
        directory: the folder.
        shown: its name in messages.

    Raises:
        BaselineError: a file of the folder cannot be read.

    Attributes:
        accepted: the benchmarks of which something is stored.
        same: those of which nothing has to be.
        refused: those of which nothing may be, and why.
    """

    def __init__(self, run_file: RunFile, directory: Path, shown: str) -> None:
        self.accepted: dict[str, Facts] = {}
        self.same: list[str] = []
        self.refused: dict[str, str] = {}
        self._python = run_file.python
        self._baselines = Baselines(directory, shown)
        self._kernels = Kernels(directory, shown)
        environment = run_file.environment
        timings = None if environment is None else Timings(directory, shown, environment)
        self._timings = timings if timings is not None and timings.is_comparable else None
        self._entries: dict[Store[Entry], dict[str, Mapping[str, int]]] = {}
        self._times: dict[str, StoredResult] = {}

    def add(self, wanted: Iterable[Measurement]) -> None:
        """Look at these benchmarks of the run."""
        for each in wanted:
            if (why := each.refusal) is not None:
                self.refused[each.key] = why
                continue
            self._add_counters(each)
            self._add_time(each)
            if each.key not in self.accepted:
                self.same.append(each.key)

    @property
    def changed(self) -> list[str]:
        """The benchmarks of which a stored line changes."""
        return [key for key, facts in self.accepted.items() if not facts.is_new]

    def write(self, reason: str | None) -> list[str]:
        """Store everything, after trying whether it can be.

        Returns:
            The files that were written, as messages name them.

        Raises:
            BaselineError: a file cannot be written, and is as it was.
        """
        changes = {key: _change(result, reason) for key, result in self._times.items()}
        self._check_writable()
        written: list[str] = []
        try:
            for stored, counted in self._entries.items():
                for part in stored.by_file({key: Entry(each, reason) for key, each in counted.items()}):
                    stored.write(part)
                    written.append(stored.shown_file(next(iter(part))))
            if changes and self._timings is not None:
                keys = self._timings.update(changes)
                written += sorted({self._timings.shown_file(key) for key in keys})
        except BaselineError as error:
            raise BaselineError(f"{error}; written before: {', '.join(written) or 'nothing'}") from error
        return written

    def _check_writable(self) -> None:
        for stored, counted in self._entries.items():
            stored.check_writable(counted)
        if self._times and self._timings is not None:
            self._timings.check_writable(self._times)

    def _add_counters(self, each: Measurement) -> None:
        store = self._kernels.of(each.toolchain) if each.toolchain else self._baselines
        counted, stored = each.judged_counters, store.get(each.key)
        if counted is None:
            return
        entries = self._entries.setdefault(store, {})
        if stored is None:
            self._note(each.key, f"{len(counted)} counters (new)", is_new=True)
            entries[each.key] = counted
            return
        before = Entry(comparable(stored.counters, counted, self._python))
        for move in moves(before, Entry(counted)):
            self._note(each.key, f"{move.name} {' -> '.join(move.sides)} ({move.verdict})", is_new=False)
            entries[each.key] = kept(stored.counters, self._python) | dict(counted)

    def _add_time(self, each: Measurement) -> None:
        if each.timed is None or self._timings is None:
            return
        result = judge_timing(each.timed, self._timings.get(each.key), each.threshold)
        if result.verdict is Verdict.SAME:
            return
        self._times[each.key] = result
        detail = result.detail
        if not result.history:  # nothing to compare with, of which the detail would tell
            told = f"stored {each.timed.metric} {each.timed.centre:.4g}"
            detail = f"{told}, {detail}" if detail else told
        self._note(each.key, f"{detail} ({result.verdict})", is_new=result.verdict is Verdict.NEW)

    def _note(self, key: str, detail: str, *, is_new: bool) -> None:
        facts = self.accepted.setdefault(key, Facts())
        facts.details.append(detail)
        facts.is_new = facts.is_new and is_new


def _change(result: StoredResult, reason: str | None) -> Change:
    def change(entry: TimingEntry | None) -> TimingEntry | None:
        return updated(entry, result, reason)

    return change

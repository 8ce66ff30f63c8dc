"""A finished run, out of the file that it left, read strictly: what it says may be written into baselines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.snapshot import Place, Snapshot
from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.schema import Entry

__all__ = ["DEFAULT_RUN", "Measurement", "RunFile", "read_run"]

DEFAULT_RUN = ".pagedkv-perf/run.json"
"""Where a run leaves its file, under pytest's root."""

_SCHEMA = "pagedkv-run/1"
_AGAIN = "run `pytest --pagedkv-perf` again to get a new one"
_PHASES = ("setup", "call", "teardown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One benchmark of a run.

    Attributes:
        key: its name in the baselines.
        nodeid: pytest's name for it.
        counters: what was counted; None if nothing was.
        verdict: what the run said of the counters; None if it did not judge them.
        details: the facts that the verdict rests on.
        outcomes: outcome of each phase of the test, by phase.
        failed_gate: the gate alone made its call fail.
    """

    key: str
    nodeid: str
    counters: Mapping[str, int] | None
    verdict: str | None
    details: tuple[str, ...]
    outcomes: Mapping[str, str]
    failed_gate: bool

    @property
    def refusal(self) -> str | None:
        """Why its counters are no baseline; None if they can be one."""
        if failed := [phase for phase in _PHASES if not self._passed(phase)]:
            return f"it did not pass: {failed[0]} {self.outcomes.get(failed[0], 'did not run')}"
        if self.verdict == Verdict.NONDETERMINISTIC:
            return "; ".join(self.details) or "its counters are nondeterministic"
        if self.verdict == Verdict.INCOMPARABLE:
            return "; ".join(self.details) or "it ran under another seed than the baselines"
        return "it counts nothing" if self.counters is None or self.verdict is None else None

    def _passed(self, phase: str) -> bool:
        outcome = self.outcomes.get(phase)
        return outcome == "passed" or (phase == "call" and outcome == "failed" and self.failed_gate)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A finished run.

    Attributes:
        shown: its name in messages.
        finished: when it ended, as it says itself.
        measurements: its benchmarks, by key.
        stale: baselines whose test it found to be gone.
    """

    shown: str
    finished: str
    measurements: Mapping[str, Measurement]
    stale: tuple[str, ...]

    def snapshot(self) -> Snapshot:
        """What the run counted, in the place of baselines."""
        refusals = {key: each.refusal for key, each in self.measurements.items()}
        return Snapshot(
            label=f"{self.shown} of {self.finished}",
            entries={
                Place("counters", "", key): Entry(each.counters or {})
                for key, each in self.measurements.items()
                if refusals[key] is None
            },
            is_whole=False,
            gone=frozenset(self.stale),
            notes=tuple(f"{key}: not compared, {why}" for key, why in refusals.items() if why is not None),
        )


def read_run(path: Path, shown: str) -> RunFile:
    """Read a run file.

    Raises:
        BaselineError: it cannot be read, or is no run file.
    """
    return _Reader(shown).run(_loaded(path, shown))


def _loaded(path: Path, shown: str) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BaselineError(f"{shown}: cannot be read ({error.strerror}); {_AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{shown}: no run file, as it is not JSON ({error}); {_AGAIN}") from error


class _Reader:
    """Takes a run file apart; knows its name for messages."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def run(self, data: object) -> RunFile:
        top = self._object(data, "it")
        self._check_schema(top.get("schema"))
        benchmarks = self._object(top.get("benchmarks"), "benchmarks")
        return RunFile(
            shown=self._shown,
            finished=str(top.get("finished")),
            measurements={key: self._measurement(key, benchmarks[key]) for key in sorted(benchmarks)},
            stale=self._strings(top.get("stale"), "stale"),
        )

    def _check_schema(self, schema: object) -> None:
        if schema == _SCHEMA:
            return
        if str(schema).startswith("pagedkv-perf/"):
            self._fail("is a file of baselines; name its folder, the one that holds counters/")
        self._fail(f"is no run file: its schema is {schema!r:.60}, and this version reads {_SCHEMA!r}")

    def _measurement(self, key: str, value: object) -> Measurement:
        data = self._object(value, repr(key))
        counters, outcomes = data.get("counters"), self._object(data.get("outcomes") or {}, "outcomes")
        verdict = data.get("counters_verdict", data.get("verdict"))
        return Measurement(
            key=key,
            nodeid=str(data.get("nodeid")),
            counters=None if counters is None else self._counters(key, counters),
            verdict=None if verdict is None else str(verdict),
            details=self._strings(data.get("details"), "details"),
            outcomes={phase: str(outcome) for phase, outcome in outcomes.items()},
            failed_gate=bool(data.get("failed_gate", verdict is not None)),
        )

    def _counters(self, key: str, value: object) -> Mapping[str, int]:
        counters = self._object(value, f"the counters of {key!r}")
        for name, count in counters.items():
            if isinstance(count, bool) or not isinstance(count, int):
                self._fail(f"is damaged: counter {name!r} of {key!r} is {count!r:.40}, not an integer")
        return counters

    def _strings(self, value: object, what: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._fail(f"is damaged: {what} should be a list of strings, and is {value!r:.40}")
        return tuple(value)

    def _object(self, value: object, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fail(f"is no run file: {what} should be a JSON object, and is {value!r:.40}")
        return value

    def _fail(self, what: str) -> NoReturn:
        raise BaselineError(f"{self._shown}: {what}")

"""A finished run, out of the file that it left, read strictly: what it says may be written into baselines."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.snapshot import Place, Snapshot, Stored
from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.fingerprint import Fingerprint
from pytest_pagedkv.baselines.schema import COUNTERS, KERNELS, Entry
from pytest_pagedkv.baselines.timing import TimedRun
from pytest_pagedkv.baselines.timing_schema import TimingEntry

__all__ = ["DEFAULT_RUN", "Measurement", "RunFile", "read_run"]

DEFAULT_RUN = ".pagedkv-perf/run.json"
"""Where a run leaves its file, under pytest's root."""

_SCHEMA = "pagedkv-run/1"
_AGAIN = "run `pytest --pagedkv-perf` again to get a new one"
_THRESHOLD = 0.07
_TINY, _HUGE = 1e-300, 1e300
_PHASES = ("setup", "call", "teardown")
_TOOLCHAIN = re.compile(r"[\w.+-]+", re.ASCII)
_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


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
        threshold: relative change of time above which its gate fails.
        timed: its time, in the environment of the run; None if there is none.
        toolchain: what compiled the kernel that its counters are of, or "".
    """

    key: str
    nodeid: str
    counters: Mapping[str, int] | None
    verdict: str | None
    details: tuple[str, ...]
    outcomes: Mapping[str, str]
    failed_gate: bool
    threshold: float
    timed: TimedRun | None
    toolchain: str = ""

    @property
    def refusal(self) -> str | None:
        """Why what was measured is no baseline; None if it can be one."""
        if failed := [phase for phase in _PHASES if not self._passed(phase)]:
            return f"it did not pass: {failed[0]} {self.outcomes.get(failed[0], 'did not run')}"
        if self.verdict == Verdict.NONDETERMINISTIC:
            return "; ".join(self.details) or "its counters are nondeterministic"
        if self.verdict == Verdict.INCOMPARABLE and not self.toolchain:  # each of which has lines of its own
            return "; ".join(self.details) or "it ran under another seed than the baselines"
        return "it counts nothing" if self.judged_counters is None and self.timed is None else None

    @property
    def judged_counters(self) -> Mapping[str, int] | None:
        """The counters, if there is anything to store."""
        return None if self.verdict is None else self.counters

    def _passed(self, phase: str) -> bool:
        outcome = self.outcomes.get(phase)
        return outcome == "passed" or (phase == "call" and outcome == "failed" and self.failed_gate)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A finished run.

    Attributes:
        shown: its name in messages.
        finished: when it ended, as it says itself.
        python: the version of Python that it had, such as "311".
        environment: where its timings belong; None if it has none.
        measurements: its benchmarks, by key.
        stale: baselines whose test it found to be gone.
    """

    shown: str
    finished: str
    python: str
    environment: Fingerprint | None
    measurements: Mapping[str, Measurement]
    stale: tuple[str, ...]

    def snapshot(self) -> Snapshot:
        """What the run measured, in the place of baselines."""
        entries: dict[Place, Stored] = {}
        refusals = {key: each.refusal for key, each in self.measurements.items()}
        for key, each in self.measurements.items():
            if refusals[key] is None:
                entries |= self._entries(each)
        slug = self.environment and self.environment.slug
        return Snapshot(
            label=f"{self.shown} of {self.finished}",
            entries=entries,
            environments={slug: self.environment.compared} if self.environment and slug else {},
            is_whole=False,
            python=self.python,
            gone=frozenset(self.stale),
            notes=tuple(f"{key}: not compared, {why}" for key, why in refusals.items() if why is not None),
        )

    def _entries(self, each: Measurement) -> dict[Place, Stored]:
        found: dict[Place, Stored] = {}
        if each.judged_counters is not None:
            kind = KERNELS if each.toolchain else COUNTERS
            found[Place(kind, each.toolchain, each.key)] = Entry(each.judged_counters)
        if each.timed is not None and self.environment is not None:
            timed = each.timed
            found[Place("timing", self.environment.slug, each.key)] = TimingEntry(
                metric=timed.metric, history=(timed.centre,), spread=timed.spread, source=timed.source
            )
        return found


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
        environment = self._environment(top.get("environment"))
        version = re.match(r"(\d+)\.(\d+)", str(top.get("python", _HERE)))
        return RunFile(
            shown=self._shown,
            finished=str(top.get("finished")),
            python=version[1] + version[2] if version else "",
            environment=environment,
            measurements={
                key: self._measurement(key, benchmarks[key], environment) for key in sorted(benchmarks)
            },
            stale=self._strings(top.get("stale"), "stale"),
        )

    def _check_schema(self, schema: object) -> None:
        if schema == _SCHEMA:
            return
        if str(schema).startswith("pagedkv-perf/"):
            self._fail("is a file of baselines; name its folder, the one that holds counters/")
        self._fail(f"is no run file: its schema is {schema!r:.60}, and this version reads {_SCHEMA!r}")

    def _environment(self, value: object) -> Fingerprint | None:
        if value is None:
            return None
        data = self._object(value, "environment")
        compared, recorded = (self._object(data.get(name) or {}, name) for name in ("fields", "recorded"))
        fields = {name: str(field) for name, field in compared.items()}
        try:
            found = Fingerprint(fields, {name: str(field) for name, field in recorded.items()})
            is_whole = found.slug == data.get("slug")
        except KeyError:
            is_whole = False
        if not is_whole:
            self._fail("is damaged: the fields of its environment do not give its name")
        return found

    def _measurement(self, key: str, value: object, environment: Fingerprint | None) -> Measurement:
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
            threshold=self._number(data.get("threshold") or _THRESHOLD, f"the threshold of {key!r}"),
            timed=self._timed(key, data, environment),
            toolchain=self._toolchain(key, data.get("toolchain")),
        )

    def _counters(self, key: str, value: object) -> Mapping[str, int]:
        counters = self._object(value, f"the counters of {key!r}")
        for name, count in counters.items():
            if isinstance(count, bool) or not isinstance(count, int):
                self._fail(f"is damaged: counter {name!r} of {key!r} is {count!r:.40}, not an integer")
        return counters

    def _toolchain(self, key: str, value: object) -> str:
        """Names a file, and so has to be a name."""
        if value is None:
            return ""
        if not isinstance(value, str) or not _TOOLCHAIN.fullmatch(value):
            self._fail(f"is damaged: the toolchain of {key!r} is {value!r:.40}, which is none")
        return value

    def _timed(self, key: str, data: Mapping[str, Any], environment: Fingerprint | None) -> TimedRun | None:
        """The time, if the run says all that a baseline has to say, and if it is of this device."""
        stored = self._object(data.get("stored") or {}, f"what is stored of {key!r}")
        if any(stored.get(name) is None for name in ("metric", "centre", "spread", "source")):
            return None
        if environment is None or environment.compared["device"] != stored["metric"]:
            return None
        return TimedRun(
            metric=str(stored["metric"]),
            centre=self._number(stored["centre"], f"the time of {key!r}"),
            spread=self._number(stored["spread"], f"the spread of {key!r}", least=0.0),
            source=str(stored["source"]),
        )

    def _number(self, value: object, what: str, least: float = _TINY) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _HUGE:
            self._fail(f"is damaged: {what} is {value!r:.40}, which is no number")
        return float(value)

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

"""A recorder: attached to a scheduler, it remembers what its run was like."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from os import PathLike, fspath
from typing import Any

from pagedkv import events as ev
from pagedkv.config import OffloadConfig
from pagedkv.offload.stats import OffloadFold
from pagedkv.pitfalls import Thresholds, detect, timeline
from pagedkv.recording.bins import StepBins
from pagedkv.recording.files import write_run
from pagedkv.recording.histogram import Histogram
from pagedkv.recording.looks import LooksFold
from pagedkv.recording.run import DISTRIBUTIONS, Episode, RunRecord
from pagedkv.scheduler import Scheduler
from pagedkv.stats import StatsWindow, StepLog

__all__ = ["RunRecorder"]

_MOST_EXAMINED = 2**18
_STEPS_BETWEEN_FOLDS = 1024


class RunRecorder:
    """A sink that remembers a run in bounded memory, whatever its length.

    Attach it to `Scheduler.events`. Of the last 262 144 steps it keeps everything, for the detectors (up to
    170 MB); of all steps sums and maxima over at most 1024 bins, at most 192 looks at the cache, and
    histograms.

    Args:
        scheduler: whose run it is.
        thresholds: above which numbers detectors speak; None for the usual ones.
        about: what is run: names and values that JSON knows, for whoever reads the record.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        thresholds: Thresholds | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        cache = scheduler.cache
        self._about = {} if about is None else dict(about)
        self._thresholds = Thresholds() if thresholds is None else thresholds
        self._settings = {
            "cache": asdict(cache.config),
            "scheduler": asdict(scheduler.config) | {"length_buckets": list(scheduler.config.length_buckets)},
            "offload": None if scheduler.offload is None else _plain(scheduler.offload),
        }
        self._moved = None if cache.tiers is None else OffloadFold()
        self._log = StepLog(
            cache, scheduler=scheduler.config, offload=scheduler.offload, max_steps=_MOST_EXAMINED
        )
        self._bins, self._looks = StepBins(), LooksFold(cache, self._moved)
        self._num_binned = self._committed_ns = 0
        self._histograms = {name: Histogram() for name in DISTRIBUTIONS}
        self._folds: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.StepScheduled: self._scheduled,
            ev.StepCommitted: self._committed,
            ev.RequestFinished: self._finished,
        }

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._log(event)
        if self._moved is not None:
            self._moved(event)
        if (fold := self._folds.get(type(event))) is not None:
            fold(event)

    def window(self, num_steps: int | None = None) -> StatsWindow:
        """The last so many steps, for detectors; all that are kept, if nobody says."""
        return self._log.window(num_steps)

    def record(self) -> RunRecord:
        """What the run was like until now."""
        self._bin()
        window = self._log.window()
        return RunRecord(
            about=self._about,
            settings=self._settings,
            num_examined=len(window),
            steps=self._bins.as_binned(),
            looks=self._looks.as_looks(),
            distributions={name: each.as_distribution() for name, each in self._histograms.items()},
            findings=detect(window, self._thresholds),
            timeline=self._timeline(window),
        )

    def write(self, path: str | PathLike[str], **about: Any) -> RunRecord:
        """Write the record to a file, as a whole or not at all, and return it.

        Args:
            path: the file.
            about: further things to say about the run.

        Raises:
            RecordError: it cannot be written, and is as it was.
        """
        self._about |= about
        record = self.record()
        write_run(record, path)
        return record

    def _scheduled(self, e: ev.StepScheduled) -> None:
        if e.batch_size:
            self._looks.begin(self._log.num_steps, e.now_ns)

    def _committed(self, e: ev.StepCommitted) -> None:
        self._committed_ns = e.now_ns
        if len(e.first_token_ns):
            self._histograms["ttft_ns"].add(e.first_token_ns)
        if len(e.gaps_ns):
            self._histograms["inter_token_ns"].add(e.gaps_ns)
        if self._log.num_steps - self._num_binned == _STEPS_BETWEEN_FOLDS:
            self._bin()

    def _finished(self, _event: ev.RequestFinished) -> None:
        self._looks.finished(self._log.num_steps, self._committed_ns)

    def _bin(self) -> None:
        """Take the steps since the last time."""
        window = self._log.window(self._log.num_steps - self._num_binned)
        self._num_binned = self._log.num_steps
        self._bins.add(window)
        self._histograms["step_ns"].add(window["duration_ns"])

    def _timeline(self, window: StatsWindow) -> list[Episode]:
        first = self._log.num_steps - len(window)
        begins, ends = window["now_ns"] - window["duration_ns"], window["now_ns"]
        return [
            Episode(first + start, first + stop, int(begins[start]), int(ends[stop - 1]), finding)
            for start, stop, finding in timeline(window, self._thresholds)
        ]


def _plain(offload: OffloadConfig) -> dict[str, Any]:
    path = offload.nvme_path
    return asdict(offload) | {"nvme_path": None if path is None else fspath(path)}

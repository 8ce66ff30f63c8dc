"""What hears a simulated run for a command: for its findings, and for its record."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pagedkv.pitfalls import Finding
    from pagedkv.recording import RunRecorder
    from pagedkv.scheduler import Scheduler
    from pagedkv.stats import StepLog

    Sink: TypeAlias = StepLog | RunRecorder

__all__ = ["findings_of", "sink_for"]


def sink_for(scheduler: "Scheduler", *, is_recorded: bool) -> "Sink":
    """What remembers steps for the detectors; a recorder remembers more."""
    from pagedkv.recording import RunRecorder
    from pagedkv.stats import StepLog

    if is_recorded:
        return RunRecorder(scheduler)
    return StepLog(scheduler.cache, scheduler=scheduler.config, offload=scheduler.offload)


def findings_of(sink: "Sink", record: str | None, about: dict[str, object]) -> "list[Finding]":
    """What detectors say of a run; it is recorded, if it is to be."""
    from pagedkv.pitfalls import detect
    from pagedkv.recording import RunRecorder

    if record is None or not isinstance(sink, RunRecorder):
        return detect(sink.window())
    names = ("mode", "trace", "format", "device_profile", "model_shape", "num_devices", "time_scale", "seed")
    found = list(sink.write(record, **{name: about[name] for name in names}).findings)
    about["record"] = record
    return found

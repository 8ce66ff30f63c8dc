"""Logs: one module for each program's lines, a list of them, and the folding of a file into all of them."""

from pagedkv.doctor.logs.kind import LogKind
from pagedkv.doctor.logs.memory import MemoryLog
from pagedkv.doctor.logs.ours import OurLog
from pagedkv.doctor.logs.sglang import SglangLog
from pagedkv.doctor.logs.vllm import VllmLog
from pagedkv.doctor.thresholds import LogThresholds

__all__ = ["LogKind", "log_kinds"]


def log_kinds(thresholds: LogThresholds) -> tuple[LogKind, ...]:
    """The kinds of lines that are looked for, with nothing folded yet."""
    return (OurLog(thresholds), VllmLog(thresholds), SglangLog(thresholds), MemoryLog())

"""Timelines of profilers, and what they show."""

from pagedkv.doctor.timeline.judged import findings_of, notes_of
from pagedkv.doctor.timeline.timeline import Timeline, is_blocking, is_compiling, is_step

__all__ = ["Timeline", "findings_of", "is_blocking", "is_compiling", "is_step", "notes_of"]

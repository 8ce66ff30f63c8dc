"""Recording a run: what it was like in bounded memory, in a file, and on a page."""

from pagedkv.recording.files import SCHEMA, is_run, read_run, write_run
from pagedkv.recording.plain import from_plain as record_from_plain
from pagedkv.recording.recorder import RunRecorder
from pagedkv.recording.run import Episode, RunRecord

__all__ = [
    "SCHEMA",
    "Episode",
    "RunRecord",
    "RunRecorder",
    "is_run",
    "read_run",
    "record_from_plain",
    "write_run",
]

"""Recording a run: what it was like in bounded memory, in a file, and on a page."""

from pagedkv.recording.files import SCHEMA, read_run, write_run
from pagedkv.recording.recorder import RunRecorder
from pagedkv.recording.run import RunRecord, Stretch

__all__ = ["SCHEMA", "RunRecord", "RunRecorder", "Stretch", "read_run", "write_run"]

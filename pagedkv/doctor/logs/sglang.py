"""Lines of an SGLang server."""

import re

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs import sglang_judged as judged
from pagedkv.doctor.logs.kind import BEGINNING, memo, places
from pagedkv.doctor.logs.servers import Load
from pagedkv.doctor.logs.streams import Batch, Fields, batches
from pagedkv.doctor.seen import Seen
from pagedkv.doctor.thresholds import LogThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["SglangLog"]

_DECODE = b"Decode batch"
_QUICK = re.compile(
    rb"Decode batch[.,] #running-req: (\d{1,9}), #(?:full )?token: \d{1,12}, "
    rb"(?:full )?token usage: (\d{1,3}\.\d{1,4}), "
    rb"(?:[^\n#]*#)+?queue-req: (\d{1,9})"
)
_FIELDS = (
    re.compile(rb"#running-req: (\d{1,9})"),
    re.compile(rb"token usage: (\d{1,3}(?:\.\d{1,9})?)"),
    re.compile(rb"#queue-req: (\d{1,9})"),
)
_RETRACTED = b"#retracted_reqs: "
_NUMBER = re.compile(rb"\d{1,9}")
_EAGER, _GRAPH = b"cuda graph: False", b"cuda graph: True"
_PREFILL = b"Prefill batch"
_STARTING = (b"max_total_num_tokens=", b"server_args=ServerArgs(")


class SglangLog:
    """What SGLang's lines say.

    Args:
        thresholds: above which numbers it is a finding.
    """

    name = "SGLang log"

    def __init__(self, thresholds: LogThresholds) -> None:
        self.thresholds = thresholds
        self.num_lines = self.num_odd = 0
        self.load = Load(thresholds)
        self.retracted, self.eager = Seen(), Seen()
        self.has_graphs = False
        self.num_decode = 0
        self._number, self._share = memo(int), memo(float)

    def fold(self, chunk: Chunk) -> None:
        """Fold the lines of a chunk."""
        found, num_odd = batches(chunk, _DECODE, _QUICK, _careful)
        self.num_odd += num_odd
        for batch in found:
            self._fold_decode(chunk, batch)
        if found:
            self._fold_graphs(chunk)
        for position in places(chunk.data, _RETRACTED):
            self._fold_retraction(chunk, position)
        self.num_lines += chunk.data.count(_PREFILL)
        if chunk.first_line < BEGINNING:
            self.num_lines += sum(chunk.data.count(text) for text in _STARTING)

    def findings(self) -> list[Finding]:
        """What all of them say."""
        return [found for judge in judged.JUDGES if (found := judge(self)) is not None]

    def _fold_decode(self, chunk: Chunk, batch: Batch) -> None:
        self.num_lines += len(batch.fields)
        self.num_decode += len(batch.fields)
        running, usage, waiting = zip(*batch.fields, strict=True)
        number = self._number
        lines = zip(map(number, running), map(number, waiting), map(self._share, usage), strict=True)
        self.load.fold(chunk, batch, lines)

    def _fold_graphs(self, chunk: Chunk) -> None:
        num_eager = chunk.data.count(_EAGER)
        self.has_graphs = self.has_graphs or _GRAPH in chunk.data
        if num_eager and not self.eager.count:
            self.eager.note(chunk.source_at, chunk.data.find(_EAGER))
            num_eager -= 1
        self.eager.count += num_eager

    def _fold_retraction(self, chunk: Chunk, position: int) -> None:
        match = _NUMBER.match(chunk.data, position + len(_RETRACTED))
        if match is None:
            self.num_odd += 1
            return
        self.num_lines += 1
        self.retracted.note(chunk.source_at, position, float(match[0]))


def _careful(line: bytes) -> Fields | None:
    found = [match[1] for field in _FIELDS if (match := field.search(line))]
    return tuple(found) if len(found) == len(_FIELDS) else None

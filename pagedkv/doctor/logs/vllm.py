"""Lines of a vLLM server, of its first engine and of the second (V1)."""

import re

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs import vllm_judged as judged
from pagedkv.doctor.logs.kind import BEGINNING, memo, note_each, places
from pagedkv.doctor.logs.servers import Load
from pagedkv.doctor.logs.streams import Batch, Fields, batches
from pagedkv.doctor.seen import Seen
from pagedkv.doctor.thresholds import LogThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["VllmLog"]

_STATS = b"Avg prompt throughput: "
_QUICK = re.compile(
    rb"Avg prompt throughput: [\d.]{1,20} tokens/s, Avg generation throughput: [\d.]{1,20} tokens/s, "
    rb"Running: (\d{1,9}) reqs, (?:Swapped: (\d{1,9}) reqs, )?(?:Waiting|Pending): (\d{1,9}) reqs, "
    rb"(?:Deferred: \d{1,9} reqs, )?(?:Preemptions: (\d{1,9}), )?GPU KV cache usage: (\d{1,9}\.\d)%"
)
_FIELDS = (
    re.compile(rb"Running: (\d{1,9}) reqs"),
    re.compile(rb"Swapped: (\d{1,9}) reqs"),
    re.compile(rb"(?:Waiting|Pending): (\d{1,9}) reqs"),
    re.compile(rb"Preemptions: (\d{1,9})\b"),
    re.compile(rb"(?:GPU|CPU|NPU|HPU|TPU)? ?KV cache usage: (\d{1,9}(?:\.\d{1,9})?)%"),
)
_NEEDED = (0, 2, 4)
_PREEMPTED = re.compile(
    rb" is preempted by (?:PreemptionMode\.)?(\w{1,20}) mode [^\n]{0,400}?"
    rb"total_(?:num_)?cumulative_preemption(?:_cnt)?=(\d{1,12})"
)
_STARTING = (b"GPU blocks: ", b"KV cache size: ", b"Maximum concurrency for ", b"vLLM API server version ")
_TRANSFERS = b"KV Transfer metrics: "


class VllmLog:
    """What vLLM's lines say.

    Args:
        thresholds: above which numbers it is a finding.
    """

    name = "vLLM log"

    def __init__(self, thresholds: LogThresholds) -> None:
        self.thresholds = thresholds
        self.num_lines = self.num_odd = 0
        self.num_preemptions = 0
        self.load = Load(thresholds)
        self.preempted, self.swapped, self.compiled = Seen(), Seen(), Seen()
        self.told_total = 0  # by the first engine, which counts since its start
        self.num_by_swapping = 0
        self._number, self._share = memo(int), memo(lambda text: float(text) / 100)

    def fold(self, chunk: Chunk) -> None:
        """Fold the lines of a chunk."""
        found, num_odd = batches(chunk, _STATS, _QUICK, _careful)
        self.num_odd += num_odd
        for batch in found:
            self._fold_stats(chunk, batch)
        self._fold_preemptions(chunk)
        self.num_lines += note_each(self.compiled, chunk, b"JIT compilation during inference")
        self.num_lines += chunk.data.count(_TRANSFERS)
        if chunk.first_line < BEGINNING:
            self.num_lines += sum(chunk.data.count(text) for text in _STARTING)

    def findings(self) -> list[Finding]:
        """What all of them say."""
        return [found for judge in judged.JUDGES if (found := judge(self)) is not None]

    def _fold_stats(self, chunk: Chunk, batch: Batch) -> None:
        self.num_lines += len(batch.fields)
        running, swapped, waiting, preempted, usage = zip(*batch.fields, strict=True)
        number, share = self._number, self._share
        lines = zip(map(number, running), map(number, waiting), map(share, usage), strict=True)
        self.load.fold(chunk, batch, lines)
        self._note_some(self.swapped, chunk, batch, swapped)
        self.num_preemptions += self._note_some(self.preempted, chunk, batch, preempted)

    def _note_some(self, seen: Seen, chunk: Chunk, batch: Batch, texts: Fields) -> int:
        """Note the lines in which a field that is seldom there is above 0; returns the sum."""
        if not any(texts):
            return 0
        total = 0
        for number, text in enumerate(texts):
            if text and (value := int(text)):
                total += value
                seen.note(lambda at: chunk.source_at(batch.position_of(at)), number, value)
        return total

    def _fold_preemptions(self, chunk: Chunk) -> None:
        for position in places(chunk.data, b" is preempted by "):
            match = _PREEMPTED.match(chunk.data, position)
            if match is None:
                self.num_odd += 1
                continue
            self.num_lines += 1
            self._count_told(int(match[2]))
            self.num_by_swapping += match[1] == b"SWAP"
            self.preempted.note(chunk.source_at, position, float(match[2]))

    def _count_told(self, total: int) -> None:
        """Add what a running total has grown by; a smaller one is that of a new process, or of another."""
        self.num_preemptions += total - self.told_total if total >= self.told_total else total
        self.told_total = total


def _careful(line: bytes) -> Fields | None:
    found = [field.search(line) for field in _FIELDS]
    if any(found[number] is None for number in _NEEDED):
        return None
    return tuple(match[1] if match else b"" for match in found)

"""pagedkv's own log lines, as `pagedkv.logs` words them, behind whatever a handler puts before them."""

import re

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs import ours_judged as judged
from pagedkv.doctor.logs.kind import note_each, nth, places
from pagedkv.doctor.seen import Seen
from pagedkv.doctor.thresholds import LogThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["OurLog"]

_POOL = re.compile(rb"\[Allocator\] (?:Free blocks: (\d{1,12}) / (\d{1,12})|Fragmentation: (\d\.\d\d))")
_WASTED = re.compile(rb"\[Allocator\] Fragmentation: (\d\.\d\d)")
_FREE = b"[Allocator] Free blocks: "
_CROSSED = b"[Allocator] Fragmentation > "
_COPIES = re.compile(rb"Copy-on-write: (\d{1,9}) copies this step")
_REDUCED = re.compile("Batch size reduced: (\\d{1,9}) → (\\d{1,9})".encode())
_LOST = b" computed tokens lost"
_GENERATED = re.compile(rb"\) after \d{1,18}\.\d ms: (\d{1,12}) tokens generated")
_PAGED_IN = re.compile(
    rb"Paged in \d{1,12} blocks in (\d{1,12}\.\d\d) to \d{1,12}\.\d\d ms \((\d{1,12}\.\d\d) ms by bandwidth"
)
_COPIED = re.compile(
    rb"\[KV\] Copied (\d{1,9}) blocks of (\d{1,6}) tokens; (\d{1,12}) tokens were written since"
)
_GREW = re.compile(rb"Batch size is \d{1,9} again, after \d{1,9} steps and (\d{1,12}\.\d) ms")
_WAITED = re.compile(rb" waited (\d{1,12}\.\d\d) ms for its pages")
_TIMES = re.compile(
    rb"\[Engine\] (\d{1,9}) steps took (\d{1,12}\.\d) ms of (\d{1,15}\.\d) ms; (\d{1,9}) of (\d{1,9}) decodes"
)
_STILL = re.compile(rb"\[Engine\] A step stood still for (\d{1,12}\.\d\d) ms")
_COMPILED = re.compile(rb"\[Engine\] A step compiled \d{1,9} kernels in (\d{1,12}\.\d) ms")
_STEP = re.compile(rb"\[Engine\] Step \d{1,18} took (\d{1,12}\.\d) ms \(p50 (\d{1,12}\.\d) ms\)")


class OurLog:
    """What pagedkv's lines say.

    Args:
        thresholds: above which numbers it is a finding.
    """

    name = "pagedkv log"

    def __init__(self, thresholds: LogThresholds) -> None:
        self.thresholds = thresholds
        self.num_lines = self.num_odd = 0
        self.num_readings = 0
        self._limit = f"{thresholds.fragmentation_ratio:.2f}".encode()
        self._free = (b"1", b"1")
        self.num_finished = self.num_generated = 0
        self.num_paged_in = 0
        self.crossings, self.wasteful = Seen(), Seen()
        self.copies, self.copied, self.shared = Seen(), Seen(), Seen()
        self.block_size = self.num_copied_slots = self.num_written = 0
        self.num_grown, self.collapsed_ms = 0, 0.0
        self.waited_ms = self.still_ms = 0.0
        self.num_steps = self.num_decodes = 0
        self.steps_ms = self.all_ms = 0.0
        self.reduced, self.collapsed, self.preempted = Seen(), Seen(), Seen()
        self.stalls, self.late, self.throttled = Seen(), Seen(), Seen()
        self.slow_steps, self.waits, self.compiled, self.spikes = Seen(), Seen(), Seen(), Seen()

    def fold(self, chunk: Chunk) -> None:
        """Fold the lines of a chunk."""
        data = chunk.data
        if b"[Allocator] " in data:
            self._fold_pool(chunk)
        if b"[KV] " in data:
            self._fold_copies(chunk)
        if b"[Scheduler] " in data:
            self._fold_scheduler(chunk)
        if b"[Offload] " in data:
            self._fold_offload(chunk)
        if b"[Engine] " in data:
            self._fold_steps(chunk)
        self.num_lines += note_each(self.waits, chunk, b"[GPU Stream Sync] wait_event")

    def findings(self) -> list[Finding]:
        """What all of them say."""
        return [found for judge in judged.JUDGES if (found := judge(self)) is not None]

    def _fold_pool(self, chunk: Chunk) -> None:
        data = chunk.data
        readings = _WASTED.findall(data)
        num_free = data.count(_FREE)
        num_crossed = note_each(self.crossings, chunk, _CROSSED)
        self.num_readings += len(readings)
        if readings and max(readings) > self._limit:
            self._fold_wasteful(chunk)
        elif num_free and (match := _POOL.match(data, data.rfind(_FREE))):
            self._free = match[1], match[2]
        self._count(chunk, b"[Allocator] ", len(readings) + num_free + num_crossed)

    def _fold_wasteful(self, chunk: Chunk) -> None:
        """Fold readings of which some are above the limit: do they count, for the pool is nearly full?"""
        limit, data = self._limit, chunk.data
        for number, (free, size, wasted) in enumerate(_POOL.findall(data)):
            if free:
                self._free = free, size
            elif wasted > limit and self._is_short():
                self.wasteful.note(
                    lambda at: chunk.source_at(nth(_POOL.finditer(data), at).start()), number, float(wasted)
                )

    def _is_short(self) -> bool:
        free, size = map(int, self._free)
        return free <= self.thresholds.short_pool_ratio * size

    def _fold_copies(self, chunk: Chunk) -> None:
        num_found = note_each(self.shared, chunk, b"[KV] Refcount over ")
        for match in _COPIES.finditer(chunk.data):
            num_found += 1
            self.copies.note(chunk.source_at, match.start(), float(match[1]))
        for match in _COPIED.finditer(chunk.data) if b"] Copied " in chunk.data else ():
            num_found += 1
            num_blocks, self.block_size, num_written = map(int, match.groups())
            self.copied.note(chunk.source_at, match.start(), num_blocks)
            self.num_copied_slots += num_blocks * self.block_size
            self.num_written += num_written
        self._count(chunk, b"[KV] ", num_found)

    def _fold_scheduler(self, chunk: Chunk) -> None:
        data = chunk.data
        for match in _REDUCED.finditer(data):
            self.reduced.note(chunk.source_at, match.start(), int(match[1]) / max(1, int(match[2])))
        note_each(self.collapsed, chunk, b"[Scheduler] Batch collapse detected")
        grew = _GREW.findall(data) if b" again, after " in data else []
        self.num_grown += len(grew)
        self.collapsed_ms += sum(map(float, grew))
        for position in places(data, _LOST):
            lost = data[max(0, position - 12) : position].rpartition(b" ")[2]
            self.preempted.note(chunk.source_at, position, float(lost) if lost.isdigit() else 0.0)
        generated = _GENERATED.findall(data)
        self.num_finished += len(generated)
        self.num_generated += sum(map(int, generated))
        self.num_lines += data.count(b"[Scheduler] ")  # their wording may change

    def _fold_offload(self, chunk: Chunk) -> None:
        note_each(self.stalls, chunk, b"[Offload] Page-in stall")
        note_each(self.late, chunk, b"[Offload] Page-in latency > ")
        note_each(self.throttled, chunk, b"[Offload] Throttling IO thread")
        self.num_paged_in += len(_PAGED_IN.findall(chunk.data))
        if b" waited " in chunk.data:
            self.waited_ms += sum(map(float, _WAITED.findall(chunk.data)))
        self.num_lines += chunk.data.count(b"[Offload] ")

    def _fold_steps(self, chunk: Chunk) -> None:
        data, num_slow = chunk.data, 0
        for match in _STEP.finditer(data):
            num_slow += 1
            self.slow_steps.note(chunk.source_at, match.start(), float(match[1]) / max(0.1, float(match[2])))
        for match in _COMPILED.finditer(data):
            self.compiled.note(chunk.source_at, match.start(), float(match[1]))
        for match in _TIMES.finditer(data):
            self.num_steps += int(match[1])
            self.steps_ms += float(match[2])
            self.all_ms += float(match[3])
            self.num_decodes += int(match[5])
            if num_spikes := int(match[4]):
                self.spikes.note(chunk.source_at, match.start(), num_spikes)
        self.still_ms += sum(map(float, _STILL.findall(data)))
        num_odd = max(0, data.count(b"[Engine] Step ") - num_slow)
        self.num_odd += num_odd
        self.num_lines += data.count(b"[Engine] ") - num_odd

    def _count(self, chunk: Chunk, start: bytes, num_found: int) -> None:
        self.num_lines += num_found
        self.num_odd += max(0, chunk.data.count(start) - num_found)

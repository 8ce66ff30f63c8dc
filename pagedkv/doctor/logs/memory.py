"""Lines that say that memory ran out, of whatever server wrote them."""

import re

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs.kind import note_each, places, sources_of
from pagedkv.doctor.seen import Seen
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity

__all__ = ["MemoryLog"]

_OUT = b"out of memory"
_WHO = re.compile(rb"(?:OutOfMemoryError: |CUDA |HIP |XPU |CUDA error: |Prefill |Decode |Extend )$")
_HARMLESS = re.compile(rb"out of memory happened")  # SGLang retracts requests then, and goes on
_PROMPT = b"Received request "  # what follows is somebody's text
_TOO_SMALL = b"increasing `gpu_memory_utilization`"  # what vLLM says of a pool too small to start
_UNALLOCATED = re.compile(rb"(\d{1,9}(?:\.\d{1,9})?) ([KMG]iB) is reserved by PyTorch but unallocated")
_TRIED = re.compile(rb"Tried to allocate (\d{1,9}(?:\.\d{1,9})?) ([KMG]iB)")
_UNITS = {b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}
_WINDOW = 1 << 12
_BEFORE = 32


class MemoryLog:
    """What the lines about lack of memory say."""

    name = "out-of-memory errors"

    def __init__(self) -> None:
        self.num_lines = self.num_odd = 0
        self.failed, self.refused = Seen(), Seen()
        self.num_unusable = 0

    def fold(self, chunk: Chunk) -> None:
        """Fold the lines of a chunk."""
        self._fold_failures(chunk)
        self.num_lines += note_each(self.refused, chunk, _TOO_SMALL)

    def findings(self) -> list[Finding]:
        """What all of them say."""
        return [found for found in (self._failure(), self._refusal()) if found is not None]

    def _fold_failures(self, chunk: Chunk) -> None:
        for position in places(chunk.data, _OUT):
            if _WHO.search(chunk.data, max(0, position - _BEFORE), position) is None or _HARMLESS.match(
                chunk.data, position
            ):
                continue
            if _PROMPT in chunk.before(position):
                continue
            self.num_lines += 1
            self.failed.note(chunk.source_at, position)
            self.num_unusable += _is_fragmented(chunk.data[position : position + _WINDOW].partition(b"\n")[0])

    def _failure(self) -> Finding | None:
        if not self.failed.count:
            return None
        fragmented = Advice(
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            f"{self.num_unusable} times torch held enough memory, in pieces that were too small",
        )
        return Finding(
            pitfall=Pitfall.FRAGMENTATION if self.num_unusable else Pitfall.BATCH_COLLAPSE,
            severity=Severity.CRITICAL,
            summary=f"memory ran out, by {self.failed.count:,} lines; whatever ran then has failed",
            evidence={"failures": self.failed.count, "failures_with_enough_in_pieces": self.num_unusable},
            advice=((fragmented,) if self.num_unusable else ()) + _LESS_MEMORY,
            sources=sources_of(self.failed),
        )

    def _refusal(self) -> Finding | None:
        if not self.refused.count:
            return None
        return Finding(
            pitfall=Pitfall.BATCH_COLLAPSE,
            severity=Severity.CRITICAL,
            summary="a server did not start: its KV pool would have been too small",
            evidence={"refusals": self.refused.count},
            advice=_LARGER_POOL,
            sources=sources_of(self.refused),
        )


_LESS_MEMORY = (
    Advice(
        "a lower --gpu-memory-utilization (vLLM) or --mem-fraction-static (SGLang)",
        "the KV pool leaves more memory to activations",
    ),
    Advice(
        "a smaller --max-num-batched-tokens (vLLM) or --chunked-prefill-size (SGLang)",
        "activations of a step take less",
    ),
)
_LARGER_POOL = (
    Advice("a higher --gpu-memory-utilization", "more memory for KV blocks"),
    Advice("a smaller --max-model-len", "one request needs fewer blocks"),
    Advice("--kv-cache-dtype fp8", "half the bytes of a block"),
    Advice("a larger --tensor-parallel-size", "weights take less of each device"),
)


def _is_fragmented(line: bytes) -> bool:
    """Whether torch held more than was asked for, and could not use it."""
    tried, held = _TRIED.search(line), _UNALLOCATED.search(line)
    if tried is None or held is None:
        return False
    return float(held[1]) * _UNITS[held[2]] > float(tried[1]) * _UNITS[tried[2]]

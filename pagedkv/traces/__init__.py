"""Request traces: readers of public formats, and a seeded generator.

    trace = read_trace("conversation_trace.jsonl.gz")
    trace = generate("chat", num_requests=1000, seed=0)

A trace holds lengths, arrival times and opaque, prefix-chained block ids; `pagedkv.replay` runs it.
"""

from pagedkv.traces.generator import generate
from pagedkv.traces.prefix_model import PrefixModel
from pagedkv.traces.reader import read_trace
from pagedkv.traces.trace import Trace, TraceRequest
from pagedkv.traces.workload import PRESETS, Workload
from pagedkv.traces.writer import write_trace

__all__ = [
    "PRESETS",
    "PrefixModel",
    "Trace",
    "TraceRequest",
    "Workload",
    "generate",
    "read_trace",
    "write_trace",
]

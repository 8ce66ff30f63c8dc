"""The engine: real requests over scheduler, cache and whatever executes a step. Imports no torch."""

from pagedkv.engine.engine import Engine, Progress
from pagedkv.engine.executor import Executor
from pagedkv.engine.intake import AnyPrompt, ModelLimits
from pagedkv.engine.outputs import CompletionOutput, RequestMetrics, RequestOutput
from pagedkv.engine.stats import EngineStats
from pagedkv.engine.streams import OutputStream
from pagedkv.live import SECTIONS
from pagedkv.sampling.detokenizer import Tokenizer

__all__ = [
    "SECTIONS",
    "AnyPrompt",
    "CompletionOutput",
    "Engine",
    "EngineStats",
    "Executor",
    "ModelLimits",
    "OutputStream",
    "Progress",
    "RequestMetrics",
    "RequestOutput",
    "Tokenizer",
]

"""Parts of a snapshot. Each is a function that copies what it needs, quickly, and returns what shows it.

The first happens between two changes of the engine, which may have to wait for it. The second may take its
time, and happens on the thread of whoever asked.
"""

from pagedkv.engine.sections.device import device_memory
from pagedkv.engine.sections.pool import blocks, offload, pool, tables, usage
from pagedkv.engine.sections.prefixes import prefix_cache
from pagedkv.engine.sections.requests import requests
from pagedkv.engine.sections.scheduling import history, scheduler
from pagedkv.engine.sections.subject import Section, Subject, breathe, plain

__all__ = [
    "Section",
    "Subject",
    "blocks",
    "breathe",
    "device_memory",
    "history",
    "offload",
    "plain",
    "pool",
    "prefix_cache",
    "requests",
    "scheduler",
    "tables",
    "usage",
]

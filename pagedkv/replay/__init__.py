"""Traces through the real block manager: what a cache would do under real traffic.

`replay_sequential` runs requests one after the other against the prefix cache, `replay_fork` measures what
sharing a prompt among samples saves, `replay_fcfs` lets requests wait for blocks, first come first served.
Every number is counted by the manager, the pool or the events that they emit. Results are exact, and do not
depend on the machine.
"""

from pagedkv.replay.fcfs import FcfsResult, replay_fcfs
from pagedkv.replay.fork import ForkResult, replay_fork
from pagedkv.replay.result import Progress, ReplayResult, block_size_for
from pagedkv.replay.sequential import SequentialResult, TieredResult, replay_sequential

__all__ = [
    "FcfsResult",
    "ForkResult",
    "Progress",
    "ReplayResult",
    "SequentialResult",
    "TieredResult",
    "block_size_for",
    "replay_fcfs",
    "replay_fork",
    "replay_sequential",
]

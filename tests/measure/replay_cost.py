"""What a sequential replay costs: CPU seconds and peak memory, each in a fresh process.

Run as a module it is that process: `python -m tests.measure.replay_cost TRACE NUM_BLOCKS|inf`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

__all__ = ["POOL_SIZES", "TRACE", "ReplayCost", "find_trace", "measure_replays", "replay_table"]

TRACE = "mooncake_conversation.jsonl.gz"
POOL_SIZES = ("1000", "10000", "50000", "inf")


@dataclass(frozen=True, slots=True)
class ReplayCost:
    """Cost of one replay.

    Attributes:
        trace: name of the file.
        num_blocks: size of the pool, as it was asked for.
        read_s: CPU seconds to read the trace.
        replay_s: CPU seconds to replay it.
        peak_rss_bytes: peak resident memory of the process, interpreter and numpy included.
        counts: what the replay counted.
    """

    trace: str
    num_blocks: str
    read_s: float
    replay_s: float
    peak_rss_bytes: int
    counts: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return asdict(self)


def find_trace() -> Path | None:
    """The trace in the folder that PAGEDKV_TRACES names, if there is one."""
    folder = os.environ.get("PAGEDKV_TRACES")
    path = Path(folder) / TRACE if folder else None
    return path if path is not None and path.is_file() else None


def measure_replays(path: Path, tick: Callable[[], object]) -> list[ReplayCost]:
    """Replay with each pool size, in a process of its own."""
    costs = []
    for num_blocks in POOL_SIZES:
        command = [sys.executable, "-m", "tests.measure.replay_cost", str(path), num_blocks]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        costs.append(ReplayCost(**json.loads(done.stdout)))
        tick()
    return costs


def replay_table(costs: Iterable[ReplayCost]) -> Table:
    """The costs, a row for each pool size."""
    table = Table(title=f"Sequential replay of {TRACE}, a process for each pool size")
    columns = ("blocks", "read, CPU s", "replay, CPU s", "peak memory, MiB", "hit blocks", "evictions")
    for column in columns:
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(
            cost.num_blocks,
            f"{cost.read_s:.2f}",
            f"{cost.replay_s:.2f}",
            f"{cost.peak_rss_bytes / 2**20:.0f}",
            f"{cost.counts['hit_blocks']:,.0f}",
            f"{cost.counts['evictions']:,.0f}",
        )
    return table


def _replay(path: Path, num_blocks: str) -> ReplayCost:
    from pagedkv.replay import replay_sequential
    from pagedkv.traces import read_trace

    start = time.process_time()
    trace = read_trace(path)
    read = time.process_time()
    result = replay_sequential(trace, None if num_blocks == "inf" else int(num_blocks))
    end = time.process_time()
    return ReplayCost(path.name, num_blocks, read - start, end - read, _peak_rss_bytes(), result.as_dict())


def _peak_rss_bytes() -> int:
    """Peak memory of this program; `ru_maxrss` would start at that of the process that started it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell a process its peak memory")


if __name__ == "__main__":
    print(json.dumps(_replay(Path(sys.argv[1]), sys.argv[2]).as_dict()))

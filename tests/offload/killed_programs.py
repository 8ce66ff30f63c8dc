"""Forks processes that run programs over real tiers, and kills them at any time.

Run as a module, `tests.offload.killed_programs FOLDER COUNT`; it prints the signals that ended them, and what
lay in the folder afterwards, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.offload.fault_programs import FaultProgram

__all__: list[str] = []

NUM_STEPS = 400


def forked(folder: Path, seed: int, delay_s: float) -> int:
    """Run programs in another process; the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            for number in range(10_000):
                FaultProgram(1_000 * seed + number, folder).run(NUM_STEPS)
        finally:
            os._exit(1)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def main(folder: Path, count: int) -> None:
    """Kill so many, and run a program to its end after each."""
    chosen = random.Random(7)  # noqa: S311
    signals, left = set(), set()
    for seed in range(count):
        signals.add(forked(folder, seed, chosen.uniform(0, 0.3)))
        left |= {path.name for path in folder.iterdir()}
    FaultProgram(count, folder).run(NUM_STEPS)
    print(json.dumps({"signals": sorted(signals), "left": sorted(left)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

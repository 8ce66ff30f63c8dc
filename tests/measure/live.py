"""What looking at an engine costs: a snapshot of a large pool, and a step while somebody looks.

    python -m tests.measure.live

The engine has 100 000 blocks of 16 tokens and 256 running sequences; its steps compute nothing, so that what
is left is bookkeeping.
"""

import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from pagedkv.block_manager import BlockManager
from pagedkv.clock import WallClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import SECTIONS, Engine
from pagedkv.engine.live import SocketPath
from pagedkv.live import Gate, ask
from pagedkv.live.protocol import encode_in_pieces
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import ScheduledStep, Scheduler

NUM_BLOCKS, NUM_SEQUENCES, PROMPT, SHARED = 100_000, 256, 4096, 512
OF_TOP = ("config", "usage", "offload", "stats", "device_memory")
STEPS = 1500


class Nothing:
    """An executor that computes nothing."""

    def execute(self, step: ScheduledStep) -> Sampled:
        return Sampled(token_ids=np.zeros(len(step.sampling()), np.int32))

    def close(self) -> None:
        """Nothing is held."""


def large_engine(debug_socket: SocketPath = False) -> Engine:
    """An engine whose sequences all decode."""
    cache = BlockManager(CacheConfig(num_blocks=NUM_BLOCKS, block_size=16))
    config = SchedulerConfig(max_running=NUM_SEQUENCES, max_batch_tokens=8192)
    engine = Engine(Nothing(), Scheduler(cache, config, WallClock()), debug_socket=debug_socket)
    random = np.random.default_rng(0)
    shared = random.integers(0, 32_000, SHARED).tolist()
    for _ in range(NUM_SEQUENCES + 100):
        own = random.integers(0, 32_000, PROMPT - SHARED).tolist()
        engine.add_request(shared + own, SamplingParams(max_tokens=20_000, ignore_eos=True))
    while any(each.status.value == "prefilling" for each in engine.scheduler.requests.values()) or (
        engine.scheduler.num_running < NUM_SEQUENCES
    ):
        engine.step()
    return engine


def best_ms(run: Callable[[], object], times: int = 15) -> str:
    """Shortest and middle time."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(1e3 * (time.perf_counter() - start))
    return f"{min(found):7.2f} {median(found):7.2f}"


def snapshots(engine: Engine) -> None:
    """Time on the engine's thread, in all, and as JSON, by sections."""
    print(f"{'ms, shortest and median':<26}{'copied':>16}{'whole':>17}{'as JSON':>17}{'bytes':>11}")
    for name, sections in (
        ("the usual sections", None),
        ("all sections", SECTIONS),
        ("those of top", OF_TOP),
    ):
        found = engine.snapshot(sections)
        copied = best_ms(lambda sections=sections: engine._observer.copied(sections))  # type: ignore[misc]
        whole = best_ms(lambda sections=sections: engine.snapshot(sections))  # type: ignore[misc]
        encoded = best_ms(lambda found=found: encode_in_pieces(found))  # type: ignore[misc]
        print(f"{name:<26} {copied}  {whole}  {encoded} {len(encode_in_pieces(found)):>10}")


def steps_us(engine: Engine) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum of the time of a step."""
    found = []
    gc.disable()
    for _ in range(STEPS):
        start = time.perf_counter()
        engine.step()
        found.append(1e6 * (time.perf_counter() - start))
    gc.enable()
    found.sort()
    return median(found), found[len(found) * 99 // 100], found[-1]


def looked_at(path: Path, interval_s: float) -> Callable[[], None]:
    """Look at an engine again and again, until what this returns is called."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(interval_s):
            ask(path, OF_TOP)

    thread = threading.Thread(target=look)
    thread.start()

    def end() -> None:
        done.set()
        thread.join()

    return end


def lock_ns() -> float:
    """What a step pays for being looked at by nobody: two uncontended locks and a flag."""
    gate, times = Gate(), 200_000
    start = time.perf_counter()
    for _ in range(times):
        if gate.is_asked:
            gate.let_look()
        with gate.lock:
            pass
        with gate.lock:
            pass
    return 1e9 * (time.perf_counter() - start) / times


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with large_engine(path) as engine:
            snapshots(engine)
            print(f"\nlocks and flag: {lock_ns():.0f} ns a step")
            print(f"\n{'us a step':<26}{'median':>9}{'p99':>9}{'max':>9}")
            for name, interval_s in (("nobody looks", 0.0), ("every second", 1.0), ("every 50 ms", 0.05)) * 2:
                end = looked_at(path, interval_s) if interval_s else None
                middle, high, most = steps_us(engine)
                if end is not None:
                    end()
                print(f"{name:<26}{middle:>9.1f}{high:>9.1f}{most:>9.1f}")


if __name__ == "__main__":
    main()

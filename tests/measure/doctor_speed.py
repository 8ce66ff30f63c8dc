"""How fast `pagedkv doctor` reads logs: MB of log for each second of CPU time, on one core.

    python -m tests.measure.doctor_speed [--mb 500] [--folder DIR]

Each kind of log is generated twice: as a server writes it, most lines being those of requests, and as the
worst that it can be: every line says something, and at random.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pagedkv.doctor import diagnose

NUM_LINES = 40_000  # that repeat
ACCESS = '(APIServer pid=1) INFO:     172.31.0.{:d}:{:d} - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
STATS = (
    "(APIServer pid=1) INFO 05-19 10:13:11 [loggers.py:271] Engine 000: Avg prompt throughput: {:.1f} "
    "tokens/s, Avg generation throughput: 1055.3 tokens/s, Running: {:d} reqs, Waiting: {:d} reqs, "
    "GPU KV cache usage: {:.1f}%, Prefix cache hit rate: 0.0%\n"
)
DECODE = (
    "[2026-05-24 03:51:{:02d} TP0] Decode batch, #running-req: {:d}, #token: {:d}, token usage: {:.2f}, "
    "cuda graph: True, gen throughput (token/s): {:.2f}, #queue-req: {:d}, \n"
)
PREFILL = (
    "[2026-05-24 03:51:44 TP0] Prefill batch, #new-seq: 1, #new-token: {:d}, #cached-token: 351, "
    "token usage: 0.02, #running-req: 0, #queue-req: 0, \n"
)
POST = '[2026-05-24 03:51:{:02d}] INFO:     127.0.0.1:{:d} - "POST /generate HTTP/1.1" 200 OK\n'
STAMP = "2026-05-24 03:51:44,123 DEBUG pagedkv: "


def vllm(dice: random.Random) -> str:
    """A line of a vLLM server."""
    if dice.random() < 0.97:
        return ACCESS.format(dice.randrange(255), dice.randrange(60_000))
    return STATS.format(dice.random() * 1e4, dice.randrange(40, 50), dice.randrange(9), dice.random() * 99)


def vllm_worst(dice: random.Random) -> str:
    """A line of statistics of a vLLM server in turmoil."""
    return STATS.format(dice.random() * 1e4, dice.randrange(99), dice.randrange(9), dice.random() * 99)


def sglang(dice: random.Random) -> str:
    """A line of an SGLang server."""
    if (kind := dice.random()) < 0.6:
        return POST.format(dice.randrange(60), dice.randrange(60_000))
    return PREFILL.format(dice.randrange(9999)) if kind < 0.8 else _decode(dice, 40, 50)


def sglang_worst(dice: random.Random) -> str:
    """A decode line of an SGLang server in turmoil."""
    return _decode(dice, 1, 200)


def _decode(dice: random.Random, low: int, high: int) -> str:
    running, tokens, speed = dice.randrange(low, high), dice.randrange(99_999), dice.random() * 4e3
    return DECODE.format(dice.randrange(60), running, tokens, dice.random(), speed, dice.randrange(9))


def ours(dice: random.Random) -> str:
    """A debug line of pagedkv, or one of the server around it."""
    request, waited = f"[Scheduler] Request cmpl-{dice.randrange(10**9)}", dice.random() * 1e3
    lines = (
        f"{STAMP}[Allocator] Free blocks: {dice.randrange(3072)} / 3072\n",
        f"{STAMP}[Allocator] Fragmentation: {dice.random() * 0.3:.2f}\n",
        f"{STAMP}{request} starts after {waited:.1f} ms: 344 tokens, 16 of them cached\n",
        f"{STAMP}{request} ends (stop) after {waited:.1f} ms: 344 tokens generated\n",
        '2026-05-24 03:51:44,123 INFO access: 127.0.0.1 "POST /v1/completions" 200\n',
    )
    return lines[dice.randrange(len(lines))]


def ours_worst(dice: random.Random) -> str:
    """Two bare debug lines of a pool in turmoil."""
    free, wasted = dice.randrange(3072), dice.random()
    return f"[Allocator] Free blocks: {free} / 3072\n[Allocator] Fragmentation: {wasted:.2f}\n"


LOGS: dict[str, Callable[[random.Random], str]] = {
    "vLLM": vllm,
    "vLLM, worst": vllm_worst,
    "SGLang": sglang,
    "SGLang, worst": sglang_worst,
    "pagedkv": ours,
    "pagedkv, worst": ours_worst,
}


def measure(name: str, folder: Path, num_bytes: int) -> None:
    """Write a log of this kind, read it, and print how fast that was."""
    dice = random.Random(0)  # noqa: S311 - no secret
    lines = "".join(LOGS[name](dice) for _ in range(NUM_LINES)).encode()
    path = folder / "server.log"
    with path.open("wb") as log:
        for _ in range(-(-num_bytes // len(lines))):
            log.write(lines)
    begin = time.process_time()
    found = diagnose([str(path)])
    spent = time.process_time() - begin
    report = found.files[0]
    speed, share = report.num_bytes / spent / 1e6, report.num_understood / report.num_read
    print(f"{name:16} {speed:6.0f} MB/s  {share:4.0%} of {report.num_read:,} lines understood", flush=True)
    path.unlink()


def main() -> None:
    """Measure each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=500, help="size of each log (default: %(default)s)")
    parser.add_argument("--folder", help="where to write them; default: one that is removed again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in LOGS:
            measure(name, Path(folder), arguments.mb * 10**6)


if __name__ == "__main__":
    main()

"""Files for the doctor to read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pagedkv.doctor import Diagnosis, diagnose

Doctor = Callable[..., Diagnosis]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Diagnose files with these contents."""

    def read(*contents: str | bytes) -> Diagnosis:
        paths = [tmp_path / f"{number}.log" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return diagnose([str(path) for path in paths])

    return read


def vllm_line(running: int, waiting: int, usage: float = 50.0, *, engine: int = 0, more: str = "") -> str:
    """A line of statistics, as vLLM 0.11 and later write it."""
    return (
        f"(APIServer pid=3646) INFO 05-19 10:13:11 [loggers.py:271] Engine {engine:03d}: Avg prompt "
        f"throughput: 12.5 tokens/s, Avg generation throughput: 1055.3 tokens/s, Running: {running} reqs, "
        f"Waiting: {waiting} reqs, {more}GPU KV cache usage: {usage}%, Prefix cache hit rate: 0.0%\n"
    )


def sglang_line(
    running: int, waiting: int, usage: float = 0.5, *, rank: str = " TP0", graph: bool = True
) -> str:
    """A decode line of SGLang."""
    return (
        f"[2026-05-24 03:51:44{rank}] Decode batch, #running-req: {running}, #token: 26426, token usage: "
        f"{usage:.2f}, cuda graph: {graph}, gen throughput (token/s): 429.34, #queue-req: {waiting}, \n"
    )

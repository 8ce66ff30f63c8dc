"""Pages moved by the mover, beside plain programs that move the same bytes.

    python -m tests.measure.offload_io FOLDER                  everything, through a file in that folder
    python -m tests.measure.offload_io FOLDER --json OUT       likewise, written to a file too

A row is the best of several rounds, in which both sides take turns. The plain program has as many threads as
the mover, each of which writes or reads its share of the pages, one after another.
"""

import argparse
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pagedkv import OffloadConfig
from pagedkv.kv_store import KVStore
from pagedkv.offload.storage import StorageMover

__all__ = ["main"]

_FILE_BYTES = 128 << 20  # moved in a round
_HOST_BYTES = 96 << 20
_LAYERS = {"128 KiB": 2, "512 KiB": 8, "2 MiB": 32}
_WIDTH = 150
_STEP_S = 0.001
_MODELS: dict[str, dict[str, int]] = {
    "32 layers, 8 heads of 128": {"num_layers": 32, "num_kv_heads": 8, "head_dim": 128},
    "8 layers, 8 heads of 128": {"num_layers": 8, "num_kv_heads": 8, "head_dim": 128},
    "24 layers, 2 heads of 64": {"num_layers": 24, "num_kv_heads": 2, "head_dim": 64},
    "4 layers, 2 heads of 32": {"num_layers": 4, "num_kv_heads": 2, "head_dim": 32},
}


@dataclass(frozen=True)
class Row:
    """One comparison, in GB/s."""

    what: str
    settings: str
    ours: float
    plain: float

    @property
    def ratio(self) -> float:
        """Ours over plain."""
        return self.ours / self.plain


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure.offload_io")
    parser.add_argument("folder", type=Path, help="where the file goes; use the disk that you mean")
    parser.add_argument("--rounds", type=int, default=7, help="of each row (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name or settings")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    for make in [*host_rows(), *file_rows(options.folder)]:
        if options.only in make[0]:
            rows += make[1](options.rounds)
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(_table(rows))
    if options.json:
        found = [asdict(row) | {"ratio": row.ratio} for row in rows]
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def best(works: dict[str, Callable[[], None]], num_rounds: int) -> dict[str, float]:
    """The shortest time of each work, in seconds; they take turns."""
    found = dict.fromkeys(works, float("inf"))
    for _ in range(num_rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def make_store(num_blocks: int, **shape: int) -> KVStore:
    """Blocks of 16 tokens in bf16."""
    return KVStore(num_blocks=num_blocks, block_size=16, dtype=torch.bfloat16, **shape)


# ---- device and host


def host_rows() -> list[tuple[str, Callable[[int], list[Row]]]]:
    """Each model, both ways."""
    return [
        (f"host tier, {name}", lambda rounds, name=name, shape=shape: _host_rows(name, shape, rounds))
        for name, shape in _MODELS.items()
    ]


def _host_rows(name: str, shape: dict[str, int], num_rounds: int) -> list[Row]:
    page = make_store(1, **shape).block_bytes
    num_pages = min(_HOST_BYTES // page, 512)
    store = make_store(2 * num_pages, **shape)
    mover = StorageMover.open(store, OffloadConfig(pinned_bytes=2 * num_pages * (page + 4096)))
    rng = np.random.default_rng(0)
    blocks = rng.permutation(2 * num_pages)[:num_pages]
    slots = rng.permutation(2 * num_pages)[:num_pages]
    plain = np.ones((2 * num_pages, page), np.uint8)
    elsewhere = np.ones((2 * num_pages, page), np.uint8)
    runs = mover._copier._blocks.shape[1] * mover._copier._blocks.shape[2]
    by_runs = (plain.reshape(2 * num_pages, runs, -1), elsewhere.reshape(2 * num_pages, runs, -1))

    def memcpy() -> None:
        for i, j in zip(blocks.tolist(), slots.tolist(), strict=True):
            np.copyto(elsewhere[j], plain[i])

    def memcpy_runs() -> None:
        for i, j in zip(blocks.tolist(), slots.tolist(), strict=True):
            np.copyto(by_runs[1][j], by_runs[0][i, ::-1])

    def load() -> None:
        mover.load(slots, blocks)
        _await(mover, 1)

    times = best(
        {
            "store": lambda: mover.store(blocks, slots),
            "load": load,
            "memcpy": memcpy,
            "runs": memcpy_runs,
        },
        num_rounds,
    )
    mover.close()
    speed = {work: num_pages * page / seconds / 1e9 for work, seconds in times.items()}
    settings = f"{name}: pages of {page // 1024} KiB"
    return [
        Row("page out, beside memcpy of pages", settings, speed["store"], speed["memcpy"]),
        Row("page in, beside memcpy of pages", settings, speed["load"], speed["memcpy"]),
        Row(f"page out, beside memcpy of its {runs} runs", settings, speed["store"], speed["runs"]),
        Row(f"page in, beside memcpy of its {runs} runs", settings, speed["load"], speed["runs"]),
    ]


# ---- host and file


def file_rows(folder: Path) -> list[tuple[str, Callable[[int], list[Row]]]]:
    """Page sizes and numbers of threads; without checksums and with the page cache for one of them."""
    found = [(size, threads, True, True) for size in _LAYERS for threads in (1, 2, 4)]
    found += [("2 MiB", 2, True, False), ("2 MiB", 2, False, True)]
    rows: list[tuple[str, Callable[[int], list[Row]]]] = []
    for size, threads, is_direct, is_checked in found:
        name = f"{size}, {threads} threads, {'direct' if is_direct else 'buffered'}"
        name += "" if is_checked else ", no checksums"
        rows.append(
            (
                f"file, {name}",
                lambda rounds, name=name, chosen=(size, threads, is_direct, is_checked): _file_rows(
                    folder, name, *chosen, num_rounds=rounds
                ),
            )
        )
    return rows


def _file_rows(
    folder: Path,
    name: str,
    size: str,
    num_threads: int,
    is_direct: bool,
    is_checked: bool,
    *,
    num_rounds: int,
) -> list[Row]:
    store = make_store(4, num_layers=_LAYERS[size], num_kv_heads=8, head_dim=128)
    page = store.block_bytes
    num_pages = _FILE_BYTES // page
    config = OffloadConfig(
        pinned_bytes=_FILE_BYTES,
        nvme_path=folder,
        nvme_bytes=_FILE_BYTES,
        io_threads=num_threads,
        direct_io=is_direct,
    )
    mover = StorageMover.open(store, config)
    mover._file._has_checksums = is_checked
    plain = PlainCopy(folder, num_pages, page, num_threads, is_direct=is_direct)
    for memory in (mover._pool.memory, plain.memory):
        memory[:] = np.random.default_rng(0).integers(0, 256, memory.shape[1], np.uint8)

    def spill() -> None:
        for i in range(num_pages):
            mover.spill(i, i)
        _await(mover, num_pages)

    def fetch() -> None:
        for i in range(num_pages):
            mover.fetch(i, i)
        _await(mover, num_pages)

    times = best({"spill": spill, "write": plain.write, "fetch": fetch, "read": plain.read}, num_rounds)
    mover.close()
    plain.close()
    speed = {work: num_pages * page / seconds / 1e9 for work, seconds in times.items()}
    return [
        Row("spill, beside a plain write", name, speed["spill"], speed["write"]),
        Row("fetch, beside a plain read", name, speed["fetch"], speed["read"]),
    ]


class PlainCopy:
    """The plain program: so many threads, each of which writes or reads its share of pages one by one."""

    def __init__(
        self, folder: Path, num_pages: int, page: int, num_threads: int, *, is_direct: bool = True
    ) -> None:
        mapping = mmap.mmap(-1, num_pages * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(mmap.MADV_HUGEPAGE)  # as the mover's: direct IO is much quicker from large pages
        self.memory = np.frombuffer(mapping, np.uint8).reshape(num_pages, page)
        self._page, self._num_threads = page, num_threads
        self.fd = os.open(folder, os.O_RDWR | os.O_TMPFILE | (os.O_DIRECT if is_direct else 0), 0o600)
        os.posix_fallocate(self.fd, 0, num_pages * page)

    def write(self) -> None:
        """All pages."""
        self._share(os.pwritev)

    def read(self) -> None:
        """All pages."""
        self._share(os.preadv)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.fd)

    def _share(self, call: Callable[[int, list[Any], int], int]) -> None:
        def work(first: int) -> None:
            for i in range(first, len(self.memory), self._num_threads):
                moved = call(self.fd, [self.memory[i]], i * self._page)
                if moved != self._page:
                    raise OSError(f"{moved} of {self._page} bytes were moved")

        threads = [threading.Thread(target=work, args=(first,)) for first in range(self._num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _await(mover: StorageMover, number: int) -> None:
    """Look now and then, as an engine does in its steps; or wait, if it is for one copy alone."""
    while number:
        if number == 1:
            mover.wait(10.0)
        else:
            time.sleep(_STEP_S)
        for moved in mover.poll():
            if moved.error is not None:
                raise moved.error
            number -= 1


def _table(rows: list[Row]) -> Table:
    table = Table("what", "settings", "ours, GB/s", "plain, GB/s", "ratio")
    for row in rows:
        table.add_row(row.what, row.settings, f"{row.ours:.2f}", f"{row.plain:.2f}", f"{row.ratio:.0%}")
    return table


if __name__ == "__main__":
    main()

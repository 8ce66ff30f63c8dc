"""Forks a process that has a mover, and says how that went.

Run as a module, `tests.offload.storage.forked_worker FOLDER`; it prints what the forked process met, how it
ended, and what the mover of the first one did afterwards, as JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pagedkv import OffloadConfig
from pagedkv.errors import OffloadError
from pagedkv.offload.storage import StorageMover
from tests.offload.storage.stores import ended, ids, small_store

__all__: list[str] = []


def met(call: Callable[[], object]) -> str | None:
    """The error of a call."""
    try:
        call()
    except OffloadError as error:
        return type(error).__name__
    return None


def forked(mover: StorageMover, reply: int) -> None:
    """Copy, which cannot be, and close, in the other process; the end of the interpreter closes again."""
    calls = (
        lambda: mover.load(ids([0]), ids([0])),
        lambda: mover.spill(0, 0),
        lambda: mover.fetch(0, 0),
    )
    os.write(reply, json.dumps([met(call) for call in calls]).encode())
    mover.close()
    sys.exit(0)


def main(folder: Path) -> None:
    """Fork, wait, and write a page."""
    mover = StorageMover.open(
        small_store(), OffloadConfig(pinned_bytes=1 << 16, nvme_path=folder, nvme_bytes=1 << 16)
    )
    found, reply = os.pipe()
    pid = os.fork()
    if not pid:
        forked(mover, reply)
    status = os.waitpid(pid, 0)[1]
    mover.spill(0, 0)
    errors = [moved.error for moved in ended(mover)]
    mover.close()
    report = {"in the child": json.loads(os.read(found, 1 << 16)), "status": status, "errors": errors}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

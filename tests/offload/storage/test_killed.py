"""A process that is killed at any point leaves nothing behind that matters."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.page_file import PageFile

DEADLINE_S = 120.0
WORKER = Path(__file__).with_name("killed_worker.py")


def test_killed_at_each_call_and_at_any_time(tmp_path: Path):
    """A nameless file is gone with its process; a name may be left, and the next process removes it."""
    run = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    report = json.loads(run.stdout)
    assert report["FileLayer"] == {"signals": [signal.SIGKILL], "left": []}
    assert report["Named"]["signals"] == [signal.SIGKILL]
    assert report["Named"]["left"]
    assert all(name.startswith("pagedkv-") for name in report["Named"]["left"])
    file = PageFile(tmp_path, page_bytes=4096, stride=4096, max_bytes=1 << 16, files=FileLayer())
    assert not list(tmp_path.iterdir())
    file.close()

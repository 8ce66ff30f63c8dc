"""Kernels are interpreted where there is no GPU. Triton reads that when it is imported."""

import os
from importlib.util import find_spec
from pathlib import Path

if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton") is not None:
        from tests.kernels.interpreter import repair

        repair()

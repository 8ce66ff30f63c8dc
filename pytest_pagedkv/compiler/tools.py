"""What the tools of NVIDIA's toolkit, which Triton's wheel brings along, say of compiled code."""

import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_pagedkv.compiler.errors import CompilerError

__all__ = ["Code", "Tools"]

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_PADDING = "NOP"
_WORD_BYTES = 4
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass(frozen=True, slots=True)
class Code:
    """Compiled code.

    Attributes:
        registers: of a thread.
        stack_bytes: local memory of a thread.
        operations: how often each operation occurs, such as "LDG.E.128".
    """

    registers: int
    stack_bytes: int
    operations: Mapping[str, int]

    def count(self, *families: str) -> int:
        """Instructions whose operation begins with one of these words."""
        return sum(number for name, number in self.operations.items() if name.split(".")[0] in families)

    def bytes_moved(self, family: str) -> int:
        """Sum of the widths of these instructions, in bytes of one thread."""
        return sum(width * number for width, number in self.by_width(family).items())

    def by_width(self, *families: str) -> Counter[int]:
        """How many of these instructions move how many bytes of one thread."""
        found: Counter[int] = Counter()
        for name, number in self.operations.items():
            if name.split(".")[0] in families:
                found[_width(name)] += number
        return found


def _width(operation: str) -> int:
    return next((_WIDTHS[part] for part in operation.split(".") if part in _WIDTHS), _WORD_BYTES)


class Tools:
    """The programs.

    Args:
        folder: where they are, `triton/backends/nvidia/bin`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that are not there; any of two assemblers will do."""
        programs = ["cuobjdump", "nvdisasm"]
        if not (self._folder / "ptxas-blackwell").exists():
            programs.append("ptxas")
        return tuple(name for name in programs if not (self._folder / name).exists())

    def read(self, cubin: bytes) -> Code:
        """Take compiled code apart.

        Raises:
            CompilerError: a tool refuses it.
        """
        with TemporaryDirectory(prefix="pagedkv-") as folder:
            path = Path(folder, "kernel.cubin")
            path.write_bytes(cubin)
            usage = _USAGE.search(self._run("cuobjdump", "-res-usage", path))
            listing = self._run("nvdisasm", "-c", path)
        operations = Counter(name for name in _INSTRUCTION.findall(listing) if name != _PADDING)
        if usage is None or not operations:
            raise CompilerError("cuobjdump and nvdisasm say nothing of the compiled code")
        return Code(int(usage[1]), int(usage[2]), operations)

    def _run(self, program: str, *arguments: str | Path) -> str:
        command = [self._folder / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Triton's own
        if done.returncode:
            raise CompilerError(f"{program} ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

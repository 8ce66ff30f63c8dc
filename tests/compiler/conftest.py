"""A project of kernels, on which pytest runs."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.plugin.conftest import Project, loaded, project

__all__ = ["KernelProject", "kernels", "loaded", "project"]

KERNELS = '''
import triton
import triton.language as tl

from pytest_pagedkv.compiler import Variant


class Rows:
    """As much of a tensor as the compiler needs, for torch takes seconds to import."""

    dtype = "torch.float16"

    def data_ptr(self):
        return 0


@triton.jit
def scaled(values):
    return values * 2


@triton.jit
def scale_rows(source, target, size: tl.constexpr):
    columns = tl.arange(0, size)
    tl.store(target + columns, scaled(tl.load(source + columns)))


def variant(size):
    arguments = {"source": Rows(), "target": Rows()}
    return Variant(kernel=scale_rows, arguments=arguments, constants={"size": size})


def shipped(arch):
    return {f"scale_rows-{size}": lambda size=size: variant(size) for size in SIZES}


SIZES = (1024, 2048)
'''

TESTS = """
import pytest

@pytest.mark.pagedkv_compiled("kernels:shipped", archs=(90,))
def test_compiled(pagedkv_compiled):
    assert pagedkv_compiled.excesses == ()
    assert pagedkv_compiled.spill_bytes == 0
"""


class KernelProject:
    """A folder with two kernels and a test of both."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.path = project.path
        self.run, self.perf, self.write = project.run, project.perf, project.write
        self.benchmarks = project.benchmarks
        self.write("kernels.py", KERNELS)
        self.write("test_kernels.py", TESTS)

    def change(self, before: str, after: str, name: str = "kernels.py") -> None:
        """Edit a file."""
        text = self._project.read(name)
        assert before in text
        self.write(name, text.replace(before, after))

    @property
    def toolchain(self) -> str:
        """What compiles here."""
        return f"sm_90_triton{'.'.join(version('triton').split('.')[:2])}"

    @property
    def baseline(self) -> Path:
        """The file of this toolchain."""
        return self.path / "perf_baselines" / "kernels" / f"{self.toolchain}.json"

    def stored(self) -> dict[str, dict[str, object]]:
        """What it says, by variant."""
        found = self.benchmarks(str(self.baseline.relative_to(self.path)))
        return {key.partition("[")[2].removesuffix("-sm_90]"): line for key, line in found.items()}


@pytest.fixture
def kernels(project: Project) -> KernelProject:
    """A project of kernels."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    return KernelProject(project)

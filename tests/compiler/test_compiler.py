"""Compiling in other processes: the figures are those of the tools, and every failure says what failed."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pytest_pagedkv.compiler.compiler import Compiled, Compiler
from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.resources import Resources
from pytest_pagedkv.compiler.variant import Unit

pytestmark = pytest.mark.filterwarnings("error")

TOY = "tests.compiler.toy"


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> Path:
    """Where they are kept."""
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def compiler(figures) -> Iterator[Compiler]:
    """One that lives as long as this file."""
    with closing(Compiler(figures)) as compiler:
        if problem := compiler.toolchain().problem:
            pytest.skip(problem)
        yield compiler


@pytest.fixture(scope="module")
def compiled(compiler) -> dict[Unit, Compiled]:
    """The toy's variants."""
    path = f"{TOY}:variants"
    units = [Unit(path, name, arch) for arch in (80, 90) for name in compiler.names(path, arch)]
    compiler.compile(units)
    return {unit: compiler.compiled(unit) for unit in units}


def _figures(compiled: dict[Unit, Compiled], name: str, arch: int = 90) -> Resources:
    found = compiled[Unit(f"{TOY}:variants", name, arch)]
    assert found.resources is not None, found.problem
    return found.resources


def test_aligned_rows_load_wide(compiled) -> None:
    """1024 numbers of 2 bytes over 128 threads: one load and one store of 16 bytes in each."""
    rows = _figures(compiled, "scale_rows-bf16")

    assert (rows.kernel, rows.arch, rows.num_warps) == ("scale_rows", 90, 4)
    assert (rows.wide_loads, rows.loads_64_bit, rows.narrow_loads) == (1, 0, 0)
    assert (rows.wide_stores, rows.narrow_stores) == (1, 0)
    assert 0 < rows.registers < 64
    assert 0 < rows.instructions < 200
    assert rows.spill_bytes == rows.stack_bytes == rows.tensor_core == 0


def test_an_odd_address_loads_narrow(compiled) -> None:
    """The same kernel, called with rows that begin at an odd address."""
    rows = _figures(compiled, "scale_rows-odd")

    assert (rows.wide_loads, rows.loads_64_bit, rows.narrow_loads) == (0, 0, 8)


def test_tensor_cores_by_family(compiled) -> None:
    """A product is worked on by warps on sm_80, by warp groups on sm_90."""
    old, new = _figures(compiled, "product", 80), _figures(compiled, "product", 90)

    assert (old.hmma > 0, old.hgmma) == (True, 0)
    assert (new.hmma, new.hgmma > 0) == (0, True)
    assert new.shared_memory_bytes >= 64 * 64 * 2


def test_spills_are_told(compiled) -> None:
    """One warp cannot hold 128 x 128 numbers in its registers."""
    tile = _figures(compiled, "hungry")

    assert tile.spill_store_bytes > 0
    assert tile.spill_load_bytes > 0
    assert tile.stack_bytes > 0


def test_what_was_compiled_is_not_compiled_again(compiled, figures) -> None:
    """Another run finds the figures; one that is broken is made again."""
    assert not any(each.is_cached for each in compiled.values())
    victim = next(path for path in figures.iterdir() if json.loads(path.read_text())["kernel"] == "product")
    victim.write_text("{")

    with closing(Compiler(figures)) as other:
        other.compile(compiled)
        found = {unit: other.compiled(unit) for unit in compiled}

    assert [unit.name for unit, each in found.items() if not each.is_cached] == ["product"]
    assert {unit: each.resources for unit, each in found.items()} == {
        unit: each.resources for unit, each in compiled.items()
    }


def test_a_change_in_a_called_function_is_compiled(compiler, figures, tmp_path, monkeypatch) -> None:
    """The key of the figures covers what the kernel calls."""
    text = Path(__file__).with_name("toy.py").read_text()
    (tmp_path / "first_toy.py").write_text(text)
    (tmp_path / "second_toy.py").write_text(
        text.replace("return values * factor", "return values * factor + 1")
    )
    monkeypatch.syspath_prepend(tmp_path)

    first = compiler.compiled(Unit("first_toy:variants", "scale_rows-bf16", 90))
    with closing(Compiler(figures)) as again:
        second, third = (
            again.compiled(Unit(f"{name}_toy:variants", "scale_rows-bf16", 90))
            for name in ("second", "first")
        )

    assert (second.is_cached, third.is_cached) == (False, True)
    assert first.resources == third.resources != second.resources


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", r"kernel wrong: .*arange's range must be a power of 2"),
        ("left-out", "wrong needs 'source', which the launch does not give"),
        ("unknown", "wrong has no parameter sauce"),
        ("text", "argument 'source' is a str"),
        ("no-kernel", "and not a triton.jit function"),
        ("raises", "describing raises-sm_90 raised FileNotFoundError"),
        ("absent", "has no variant 'absent'"),
        ("dies", r"the compiler ended its process \(code 134\)\nLLVM ERROR: cannot select"),
    ],
)
def test_a_failure_says_what_failed(compiler, name: str, message: str) -> None:
    """The kernel's name, and the compiler's last words; the next one is compiled as if nothing had been."""
    found = compiler.compiled(Unit(f"{TOY}:broken", name, 90))

    assert found.resources is None
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        raise AssertionError(found.problem)


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("nonsense", "write it as module:function"),
        ("no_such_module:variants", "importing no_such_module raised ModuleNotFoundError"),
        (f"{TOY}:nothing", "has no function nothing"),
        (f"{TOY}:raising", r"raised ValueError: nothing for sm_90"),
        (f"{TOY}:listing", "raised ValueError: dictionary update sequence"),
    ],
)
def test_a_provider_that_cannot_be_used(compiler, provider: str, message: str) -> None:
    """The message names it."""
    with pytest.raises(CompilerError, match=message):
        compiler.names(provider, 90)


def test_a_limit_of_time(compiler, figures) -> None:
    """A compiler that does not come back is ended."""
    with closing(Compiler(figures, num_workers=1, timeout_s=0.05)) as hasty:
        found = hasty.compiled(Unit(f"{TOY}:variants", "product", 90))

    assert found.problem == "the compiler took more than 0.05 s"


def test_the_interpreter_is_left_out(compiler, figures, monkeypatch) -> None:
    """Tests that interpret their kernels are tests all the same; what is compiled is compiled."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    with closing(Compiler(figures, num_workers=1)) as other:
        found = other.compiled(Unit(f"{TOY}:variants", "scale_rows-bf16", 90))

    assert found.resources is not None, found.problem
    assert os.environ["TRITON_INTERPRET"] == "1"


def test_leaves_nothing_behind(compiler) -> None:
    """The folders of a worker go with it."""
    other = Compiler(Path("unused"), num_workers=1)
    other.toolchain()
    folder = Path(other._workers[0]._folder.name)
    assert folder.exists()

    other.close()

    assert not folder.exists()

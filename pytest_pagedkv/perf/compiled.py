"""Tests of compiled kernels: one for each variant and architecture, all compiled before the tests run."""

import time
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_pagedkv.compiler.compiler import Compiled, Compiler
from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.resources import Resources
from pytest_pagedkv.compiler.variant import Unit
from pytest_pagedkv.marker import CompiledMark, compiled_mark
from pytest_pagedkv.perf.recorder import RECORDER
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.state import Role

__all__ = ["FIXTURE", "KERNELS", "CompiledKernels", "compiled_resources", "unit_of"]

FIXTURE = "pagedkv_compiled"
"""The fixture that a test of compiled kernels uses."""

_NUM_WORKERS = 2


class CompiledKernels:
    """Hooks that make the tests of a variant, and compile what they are about.

    Args:
        config: of this session.
        role: what this process does. One that counts compiles nothing: figures depend on no hash seed.
        folder: where figures are kept from run to run.
    """

    def __init__(self, config: pytest.Config, role: Role, folder: Path) -> None:
        self._config = config
        self._role = role
        self._folder = folder

    @cached_property
    def compiler(self) -> Compiler:
        """The compiling processes, from the first time that one is needed."""
        return Compiler(self._folder, num_workers=1 if self._role is Role.WORKER else _NUM_WORKERS)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test for each variant; only one, that says why, where there are none."""
        mark = compiled_mark(metafunc.definition)
        if mark is None or FIXTURE not in metafunc.fixturenames or self.problem(mark):
            return
        units = self._units(mark)
        metafunc.parametrize(FIXTURE, units, ids=[unit.shown for unit in units], indirect=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Compile everything, some at a time; workers of pytest-xdist leave it to the tests."""
        if self._role is not Role.CONTROLLER or self._config.option.collectonly or session.testsfailed:
            return
        units = {unit for item in session.items if (unit := unit_of(item)) and not _is_skipped(item)}
        if units:
            self._compile(sorted(units))

    def pytest_unconfigure(self) -> None:
        """End the compiling processes."""
        if "compiler" in vars(self):
            self.compiler.close()

    def compiled(self, unit: Unit) -> Compiled:
        """What became of a unit, in a process that compiles."""
        if self._role is Role.COUNTING:
            pytest.skip("compiled by another process")
        return self.compiler.compiled(unit)

    def problem(self, mark: CompiledMark) -> tuple[str, bool] | None:
        """Why there are no variants, and whether that is nobody's fault."""
        if reason := self.compiler.toolchain().problem:
            return reason, True
        try:
            units = self._units(mark)
        except CompilerError as error:
            return str(error), False
        archs = ", ".join(f"sm_{arch}" for arch in mark.archs)
        return None if units else (f"provider {mark.provider} has no variant for {archs}", False)

    def _units(self, mark: CompiledMark) -> list[Unit]:
        return [
            Unit(mark.provider, name, arch)
            for arch in mark.archs
            for name in self.compiler.names(mark.provider, arch)
        ]

    def _compile(self, units: list[Unit]) -> None:
        what = f"pagedkv: {len(units)} kernels, Triton {self.compiler.toolchain().triton}"
        progress = _Progress(self._config, what, len(units))
        self.compiler.compile(units, progress.tell)
        progress.close()


class _Progress:
    """A line on the terminal that says how many are done; without a terminal, when all are."""

    def __init__(self, config: pytest.Config, what: str, total: int) -> None:
        terminal: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
        self._terminal = terminal
        self._what = what
        self._total = total
        self._start_s = time.monotonic()
        self._num_done = self._num_cached = 0
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write(f"{what}: compiling ...")

    def tell(self, compiled: Compiled) -> None:
        """One more is done."""
        self._num_done += 1
        self._num_cached += compiled.is_cached
        if self._terminal is not None and self._terminal.isatty:
            self._terminal.rewrite(f"{self._what}: {self._num_done}/{self._total} compiled", erase=True)

    def close(self) -> None:
        """All are done."""
        if self._terminal is not None:
            seconds = time.monotonic() - self._start_s
            cached = f", {self._num_cached} of them before" if self._num_cached else ""
            text = f"{self._what}: compiled in {seconds:.0f} s{cached}"
            if self._terminal.isatty:
                self._terminal.rewrite(text, erase=True)
                self._terminal.write_line("")
            else:
                self._terminal.write_line(text.removeprefix(f"{self._what}: compiled"))


KERNELS = pytest.StashKey[CompiledKernels]()
"""On the config of a performance run."""


def unit_of(item: pytest.Item) -> Unit | None:
    """What a test has compiled; None for another test."""
    callspec = getattr(item, "callspec", None)
    unit = None if callspec is None else callspec.params.get(FIXTURE)
    return unit if isinstance(unit, Unit) else None


def compiled_resources(request: pytest.FixtureRequest) -> Resources:
    """What the fixture gives: the figures of this test's kernel, which also become its counters."""
    kernels = request.config.stash.get(KERNELS, None)
    if kernels is None:
        pytest.skip("compiled by another process")
    unit = unit_of(request.node) or _refuse(request, kernels)
    toolchain, compiled = kernels.compiler.toolchain(), kernels.compiled(unit)
    if compiled.resources is None:
        what = f"{unit.shown} does not compile with Triton {toolchain.triton}"
        pytest.fail(f"{what}:\n{compiled.problem}", pytrace=False)
    request.node.stash[BENCHMARK].toolchain = toolchain.environment(unit.arch)
    request.node.stash[RECORDER].record(compiled.resources.counters)
    return compiled.resources


def _refuse(request: pytest.FixtureRequest, kernels: CompiledKernels) -> NoReturn:
    """Say why a test has nothing to compile."""
    mark = compiled_mark(request.node)
    if mark is None:
        pytest.fail(f'{FIXTURE} needs @pytest.mark.{FIXTURE}("module:function")', pytrace=False)
    reason, is_excused = kernels.problem(mark) or ("its variants are not those of its provider", False)
    if is_excused:
        pytest.skip(reason)
    pytest.fail(reason, pytrace=False)


def _is_skipped(item: pytest.Item) -> bool:
    return item.get_closest_marker("skip") is not None

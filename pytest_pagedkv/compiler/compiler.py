"""Compiles variants, some at a time, in worker processes."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue
from typing import Any

from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.process import MissingPackage, WorkerProcess
from pytest_pagedkv.compiler.resources import Resources
from pytest_pagedkv.compiler.variant import Unit

__all__ = ["Compiled", "Compiler", "Toolchain"]

_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What compiles here.

    Attributes:
        triton: its version, or "".
        problem: why it cannot, or "".
    """

    triton: str
    problem: str = ""

    def environment(self, arch: int) -> str:
        """The name of what figures belong to: an architecture, and a minor version of Triton."""
        return f"sm_{arch}_triton{'.'.join(self.triton.split('.')[:2])}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a unit.

    Attributes:
        resources: its figures; None if it does not compile.
        problem: why it does not, or "".
        is_cached: it was compiled before.
    """

    resources: Resources | None
    problem: str = ""
    is_cached: bool = False


class Compiler:
    """Worker processes, and what they found.

    Args:
        cache: folder of figures that are kept from run to run.
        num_workers: processes.
        timeout_s: limit of one variant.
    """

    def __init__(self, cache: Path, num_workers: int = 2, timeout_s: float = _TIMEOUT_S) -> None:
        self._workers = [WorkerProcess(cache, timeout_s) for _ in range(num_workers)]
        self._idle: LifoQueue[WorkerProcess] = LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._toolchain: Toolchain | None = None
        self._names: dict[tuple[str, int], list[str]] = {}
        self._compiled: dict[Unit, Compiled] = {}

    def toolchain(self) -> Toolchain:
        """What compiles here."""
        if self._toolchain is None:
            try:
                self._toolchain = Toolchain(**self._ask("toolchain"))
            except MissingPackage as error:
                self._toolchain = Toolchain("", str(error))
        return self._toolchain

    def names(self, provider: str, arch: int) -> list[str]:
        """The variants that a provider has for an architecture.

        Raises:
            CompilerError: it cannot be used.
        """
        if (provider, arch) not in self._names:
            self._names[provider, arch] = self._ask("names", provider=provider, arch=arch)
        return self._names[provider, arch]

    def compile(self, units: Iterable[Unit], tell: Callable[[Compiled], None] = lambda _: None) -> None:
        """Compile all of them, as many at a time as there are workers.

        Args:
            units: what.
            tell: hears of each one that is done.
        """
        missing = [unit for unit in units if unit not in self._compiled]
        with ThreadPoolExecutor(len(self._workers)) as executor:
            try:
                for future in as_completed([executor.submit(self.compiled, unit) for unit in missing]):
                    tell(future.result())
            except BaseException:  # such as Ctrl-C: what is under way ends with its process
                executor.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def compiled(self, unit: Unit) -> Compiled:
        """What became of a unit; it is compiled now if it was not before."""
        if unit not in self._compiled:
            self._compiled[unit] = self._compile(unit)
        return self._compiled[unit]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()

    def _compile(self, unit: Unit) -> Compiled:
        try:
            answer: Mapping[str, Any] = self._ask(
                "compile", provider=unit.provider, name=unit.name, arch=unit.arch
            )
        except CompilerError as error:
            return Compiled(None, str(error))
        return Compiled(Resources.from_plain(answer["resources"]), is_cached=answer["is_cached"])

    def _ask(self, task: str, **arguments: Any) -> Any:
        worker = self._idle.get()
        try:
            return worker.ask(task, **arguments)
        finally:
            self._idle.put(worker)

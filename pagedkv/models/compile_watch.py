"""Kernels that Triton compiles while something runs: how many, and for how long."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

__all__ = ["CompileWatch"]


class CompileWatch(AbstractContextManager["CompileWatch"]):
    """Counts what is compiled inside a `with`, by the two hooks that Triton calls around it.

    Hooks of others are called, too, and are back when it is left.

    Attributes:
        num_kernels: kernels that were compiled, or loaded from Triton's cache on disk.
        duration_ns: time that this took.
    """

    def __init__(self) -> None:
        from triton import knobs

        self._hooks: Any = knobs.runtime
        self._began_ns = self.num_kernels = self.duration_ns = 0
        self._before: Any = None
        self._after: Any = None

    def __enter__(self) -> Self:
        self.num_kernels = self.duration_ns = 0
        self._before, self._after = self._hooks.jit_cache_hook, self._hooks.jit_post_compile_hook
        self._hooks.jit_cache_hook, self._hooks.jit_post_compile_hook = self._begin, self._end
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.jit_cache_hook, self._hooks.jit_post_compile_hook = self._before, self._after

    def _begin(self, **about: Any) -> Any:
        self._began_ns = time.perf_counter_ns()
        return None if self._before is None else self._before(**about)

    def _end(self, **about: Any) -> Any:
        self.num_kernels += 1
        self.duration_ns += time.perf_counter_ns() - self._began_ns
        return None if self._after is None else self._after(**about)

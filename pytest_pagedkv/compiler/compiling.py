"""One variant through Triton's compiler, in a process that has no other business."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

from pytest_pagedkv.compiler.cache import Cache
from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.resources import Resources
from pytest_pagedkv.compiler.signature import signature_of
from pytest_pagedkv.compiler.tools import Code, Tools
from pytest_pagedkv.compiler.variant import Described, Unit, described

__all__ = ["compile_unit", "tools"]

_WARP_SIZE = 32


def tools() -> Tools:
    """Those of the Triton that is installed."""
    return Tools(Path(triton.__file__).parent / "backends" / "nvidia" / "bin")


@dataclass(frozen=True, slots=True)
class _Job:
    """A variant, ready for the compiler."""

    variant: Described
    source: Any
    target: Any
    options: dict[str, int]

    @property
    def key(self) -> str:
        """What the figures depend on: sources of all jit functions involved, hints, options, compilers."""
        backend = make_backend(self.target)
        parts = (
            triton.__version__,
            self.source.hash(),
            backend.hash(),
            backend.parse_options(self.options).hash(),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def compile_unit(unit: Unit, cache: Cache) -> tuple[Resources, bool]:
    """Compile, unless it was compiled before.

    Returns:
        The figures, and whether they come out of the cache.

    Raises:
        CompilerError: it does not compile, or cannot be described.
    """
    job = _job(described(unit), unit.arch)
    key = job.key
    if (found := cache.get(key)) is not None:
        return replace(found, variant=unit.name), True
    resources = _resources(job, unit, _compiled(job))
    cache.put(key, resources)
    return resources, False


def _job(variant: Described, arch: int) -> _Job:
    signature = signature_of(variant)
    source = ASTSource(
        fn=variant.kernel,
        signature=signature.types,
        constexprs=signature.constants,
        attrs=signature.attributes,
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages}
    return _Job(variant, source, GPUTarget("cuda", arch, _WARP_SIZE), options)


def _compiled(job: _Job) -> Any:
    try:
        return triton.compile(job.source, target=job.target, options=job.options)
    except Exception as error:
        told = "\n".join(_told(error))
        raise CompilerError(f"kernel {job.variant.kernel.__name__}: {told}") from error


def _told(error: BaseException | None) -> Iterator[str]:
    """What went wrong, and why: of some versions of Triton only the cause says it."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__


def _resources(job: _Job, unit: Unit, compiled: Any) -> Resources:
    cubin = compiled.asm.get("cubin")
    if not cubin:
        raise CompilerError("Triton made no cubin")
    code = tools().read(cubin)
    loads, stores = code.by_width("LDG", "LDGSTS"), code.by_width("STG")
    return Resources(
        variant=unit.name,
        kernel=job.variant.kernel.__name__,
        arch=unit.arch,
        num_warps=job.variant.num_warps,
        registers=code.registers,
        spill_store_bytes=code.bytes_moved("STL"),
        spill_load_bytes=code.bytes_moved("LDL"),
        stack_bytes=code.stack_bytes,
        shared_memory_bytes=compiled.metadata.shared,
        instructions=sum(code.operations.values()),
        wide_loads=loads[16],
        loads_64_bit=loads[8],
        narrow_loads=loads.total() - loads[16] - loads[8],
        wide_stores=stores[16],
        narrow_stores=stores.total() - stores[16],
        **_tensor_core(code),
        barriers=code.count("BAR"),
    )


def _tensor_core(code: Code) -> dict[str, int]:
    return {family.lower(): code.count(family) for family in ("HMMA", "HGMMA", "QGMMA")}

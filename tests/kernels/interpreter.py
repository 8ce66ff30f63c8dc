"""Triton's interpreter with bfloat16 arithmetic that is right, and without its slowest habit.

The interpreter keeps bfloat16 as bit patterns and multiplies those; upstream declined to repair it. Our
kernels compute in bfloat16 only in matrix products and conversions, so those two are repaired. It also walks
all names of `triton.language` for every program that it runs; here it remembers them.
"""

import functools
import inspect
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

__all__ = ["repair"]


def repair() -> None:
    """Repair the interpreter of this process, once."""
    builder = interpreter.InterpreterBuilder
    if getattr(builder, "is_repaired", False):
        return
    builder.is_repaired = True
    builder.create_dot = _with_float32_operands(builder.create_dot)
    builder.cast_impl = _with_exact_bfloat16(builder.cast_impl)
    interpreter._patch_builtin = _patch_builtin


def _is_bfloat16(handle: Any) -> bool:
    return bool(handle.get_element_ty() == tl.bfloat16)


def _to_float32(handle: Any) -> Any:
    """A handle with the values of one in bfloat16."""
    bits = handle.data.astype(np.uint32) << 16
    return interpreter.TensorHandle(bits.view(np.float32), tl.float32)


def _to_bfloat16(handle: Any) -> Any:
    """A handle with the values of one in float32, rounded to nearest, ties to even."""
    values = np.ascontiguousarray(handle.data, dtype=np.float32)
    bits = values.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    data = np.where(np.isnan(values), np.uint16(0x7FC0), rounded).reshape(np.shape(handle.data))
    return interpreter.TensorHandle(data, tl.bfloat16)


def _with_float32_operands(create_dot: Any) -> Any:
    @functools.wraps(create_dot)
    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if _is_bfloat16(a):
            a, b = _to_float32(a), _to_float32(b)
        return create_dot(self, a, b, *rest)

    return dot


def _with_exact_bfloat16(cast_impl: Any) -> Any:
    @functools.wraps(cast_impl)
    def cast(self: Any, source: Any, dtype: Any) -> Any:
        if source.get_element_ty() == tl.float32 and dtype.scalar == tl.bfloat16:
            return _to_bfloat16(source)
        if _is_bfloat16(source) and dtype.scalar == tl.float32:
            return _to_float32(source)
        return cast_impl(self, source, dtype)

    return cast


@functools.lru_cache
def _builtins_of(package: object) -> tuple[str, ...]:
    return tuple(name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member))


def _patch_builtin(package: object, builder: Any, scope: Any) -> None:
    for name in _builtins_of(package):
        member = getattr(package, name)
        if tl.core.is_builtin(member):  # not replaced already
            interpreter._patch_attr(package, name, member, builder, scope)

"""From a described launch to what Triton compiles for it.

Triton specialises a kernel on what it is called with: dtypes, integers that are 1 or multiples of 16, and
addresses that are multiples of 16 bytes. The rules are those of `triton.runtime.jit` (3.4 to 3.9).
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.variant import Described

__all__ = ["Signature", "signature_of"]

_CONSTANT = "constexpr"
_ALIGNMENT = 16
_DIVISIBLE = ["tt.divisibility", _ALIGNMENT]
_DTYPES = {
    "bool": "u1",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
    "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5",
    "float8_e4m3fnuz": "fp8e4b8",
    "float8_e5m2fnuz": "fp8e5b16",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What `triton.compiler.ASTSource` takes besides the function.

    Attributes:
        types: Triton's type of every parameter, in their order, such as "*bf16", "i32" and "constexpr".
        constants: values of the "constexpr" ones, by position.
        attributes: hints about the others, by position.
    """

    types: dict[str, str]
    constants: dict[tuple[int], Any]
    attributes: dict[tuple[int], list[list[Any]]]


def signature_of(variant: Described) -> Signature:
    """What Triton would compile if this launch were made.

    Raises:
        CompilerError: an argument is missing, unknown, or of a type that has no place in a signature.
    """
    parameters = _parameters(variant.kernel)
    given = {**variant.arguments, **variant.constants}
    unknown = given.keys() - {parameter.name for parameter in parameters}
    if unknown:
        raise CompilerError(f"{_name(variant)} has no parameter {', '.join(sorted(unknown))}")
    signature = Signature({}, {}, {})
    for position, parameter in enumerate(parameters):
        _add(signature, (position,), parameter, _value(variant, parameter, given))
    return signature


def _parameters(kernel: Any) -> list[Any]:
    if not hasattr(kernel, "params") or not hasattr(kernel, "arg_names"):
        inner = f"; give {type(kernel).__name__}.fn" if hasattr(kernel, "fn") else ""
        raise CompilerError(f"kernel is {kernel!r:.80}, and not a triton.jit function{inner}")
    return list(kernel.params)


def _value(variant: Described, parameter: Any, given: Mapping[str, Any]) -> Any:
    if parameter.name in given:
        return given[parameter.name]
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    raise CompilerError(f"{_name(variant)} needs {parameter.name!r}, which the launch does not give")


def _add(signature: Signature, position: tuple[int], parameter: Any, value: Any) -> None:
    kind = _CONSTANT if parameter.is_constexpr else _type_of(parameter, value)
    signature.types[parameter.name] = kind
    if kind == _CONSTANT:
        signature.constants[position] = value
    elif _is_divisible(parameter, kind, value):
        signature.attributes[position] = [_DIVISIBLE]


def _type_of(parameter: Any, value: Any) -> str:
    """The type of an argument; a launch that leaves an argument away, or gives 1, has another kernel."""
    if parameter.annotation_type:
        return str(parameter.annotation_type)
    if value is None or (_is_integer(value) and value == 1 and not parameter.do_not_specialize):
        return _CONSTANT
    if isinstance(value, bool):
        return "u1"
    if isinstance(value, float):
        return "fp32"
    if _is_integer(value):
        return _integer_type(value)
    if hasattr(value, "data_ptr"):
        return f"*{'k' if parameter.is_const else ''}{_dtype(parameter, value)}"
    raise CompilerError(
        f"argument {parameter.name!r} is a {type(value).__name__}; a described launch has tensors, integers, "
        "floats, bools and None"
    )


def _integer_type(value: int) -> str:
    if -(2**31) <= value < 2**31:
        return "i32"
    return "u64" if value >= 2**63 else "i64"


def _dtype(parameter: Any, value: Any) -> str:
    name = str(value.dtype).rpartition(".")[2]
    if name not in _DTYPES:
        raise CompilerError(f"argument {parameter.name!r} is a tensor of {name}, which Triton has not")
    return _DTYPES[name]


def _is_divisible(parameter: Any, kind: str, value: Any) -> bool:
    if parameter.do_not_specialize or parameter.do_not_specialize_on_alignment:
        return False
    if kind.startswith("*"):
        return bool(value.data_ptr() % _ALIGNMENT == 0)
    is_number = kind == "u1" or kind[:2] in ("fp", "bf")
    return _is_integer(value) and not is_number and value % _ALIGNMENT == 0


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _name(variant: Described) -> str:
    return str(getattr(variant.kernel, "__name__", variant.kernel))

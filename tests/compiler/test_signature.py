"""What is compiled is what Triton would compile for the same call."""

from typing import Any

import pytest

from pytest_pagedkv.compiler import Variant
from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.signature import Signature, signature_of

Values = dict[str, Any]

NAMES = ["aligned", "at an odd address", "fp8", "uint8", "bools"]
NUMBERS = {
    "one": 1,
    "sixteen": 16,
    "zero": 0,
    "seventeen": 17,
    "large": 2**31,
    "larger": 2**63,
    "negative": -(2**31) - 1,
    "float": 2.5,
    "true": True,
}


@pytest.fixture(scope="module")
def values() -> Values:
    """Arguments of every kind."""
    torch = pytest.importorskip("torch")

    def of(dtype: Any) -> Any:
        return torch.empty(64, dtype=dtype, device="meta")

    tensors = [
        of(torch.bfloat16),
        of(torch.bfloat16)[1:],
        of(torch.float8_e4m3fn),
        of(torch.uint8),
        of(torch.bool),
    ]
    complex_ = {"complex": of(torch.complex64)}
    return {**NUMBERS, "none": None, **dict(zip(NAMES, tensors, strict=True)), **complex_}


@pytest.fixture(scope="module")
def kernel() -> Any:
    """One with a parameter of every kind. Triton is imported late, for other tests say how first."""
    jit = pytest.importorskip("triton.runtime.jit")
    tl = pytest.importorskip("triton.language")

    def mixed(
        plain, pinned, loose, wide: tl.int64, real: tl.float32, constant: tl.const, size: tl.constexpr = 64
    ):
        pass

    return jit.JITFunction(mixed, do_not_specialize=["pinned"], do_not_specialize_on_alignment=["loose"])


def _given(kernel: Any, values: Values, **arguments: Any) -> Variant:
    base = {"plain": 3, "pinned": 3, "loose": 3, "wide": 3, "real": 1.5, "constant": values["aligned"]}
    return Variant(kernel=kernel, arguments=base | arguments, constants={"size": 128})


def _of_triton(variant: Variant) -> Signature:
    """What Triton's own code makes of the call, as far as it can be asked without a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    kernel, backend = variant.kernel, make_backend(GPUTarget("cuda", 90, 32))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialization, _ = bind(**variant.arguments, **variant.constants)
    found = Signature({}, {}, {})
    for position, (name, (kind, hint)) in enumerate(zip(kernel.arg_names, specialization, strict=True)):
        found.types[name] = kind
        if kind == "constexpr":
            found.constants[position,] = bound[name]
        elif isinstance(hint, str) and (hints := backend.parse_attr(hint)):
            found.attributes[position,] = hints
    return found


@pytest.mark.parametrize("name", ["plain", "pinned", "loose"])
@pytest.mark.parametrize("value", [*NUMBERS, *NAMES, "none"])
def test_is_that_of_triton(kernel: Any, values: Values, name: str, value: str) -> None:
    """Types, constants and hints are those of a launch, for every kind of value and parameter."""
    variant = _given(kernel, values, **{name: values[value]})

    assert signature_of(variant) == _of_triton(variant)


@pytest.mark.parametrize("name", ["wide", "real"])
@pytest.mark.parametrize("value", NUMBERS)
def test_of_an_annotated_number_is_that_of_triton(kernel: Any, values: Values, name: str, value: str) -> None:
    """An annotated type stands, and an integer may still be known to be a multiple of 16."""
    variant = _given(kernel, values, **{name: values[value]})

    assert signature_of(variant) == _of_triton(variant)


def test_defaults_are_taken(kernel: Any, values: Values) -> None:
    """A constant that the launch does not give has the kernel's own value."""
    arguments = _given(kernel, values).arguments

    found = signature_of(Variant(kernel=kernel, arguments=arguments, constants={}))

    assert found.constants[6,] == 64
    assert found.types["size"] == "constexpr"


def test_refuses_what_has_none(kernel: Any, values: Values) -> None:
    """The message names the kernel, and the argument."""
    refused = {
        "mixed needs 'pinned', which": Variant(kernel=kernel, arguments={"plain": 1}, constants={}),
        "mixed has no parameter sauce": _given(kernel, values, sauce=1),
        "argument 'plain' is a str; a described": _given(kernel, values, plain="text"),
        "'plain' is a tensor of complex64": _given(kernel, values, plain=values["complex"]),
        "and not a triton.jit function": Variant(kernel=print, arguments={}, constants={}),
    }

    for message, variant in refused.items():
        with pytest.raises(CompilerError, match=message):
            signature_of(variant)

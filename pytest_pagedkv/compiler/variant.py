"""What is to be compiled: a launch that is described and not made."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pytest_pagedkv.compiler.errors import CompilerError, ProviderError

__all__ = ["Described", "Provider", "Unit", "Variant", "described", "load_provider", "variants_of"]


class Described(Protocol):
    """A described launch, of whatever class: an engine's own description of launches will do.

    Attributes:
        kernel: the `triton.jit` function.
        arguments: what is passed at run time, by name: tensors (on the device "meta", since only their dtype
            and address count) and numbers.
        constants: what is compiled in, by name.
        num_warps: warps of a program.
        num_stages: depth of the pipeline of loads.
    """

    @property
    def kernel(self) -> Any: ...  # noqa: D102 - above

    @property
    def arguments(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def constants(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def num_warps(self) -> int: ...  # noqa: D102

    @property
    def num_stages(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A `Described` launch, for engines that have no class of their own."""

    kernel: Any
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3


Provider = Callable[[int], Mapping[str, Callable[[], Described]]]
"""Gives the variants for an architecture (90 for sm_90) by name; each is described when it is compiled."""


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One thing to compile.

    Attributes:
        provider: where its variant comes from, as "module:function".
        name: of the variant.
        arch: compute capability times ten.
    """

    provider: str
    name: str
    arch: int

    @property
    def shown(self) -> str:
        """As messages and node ids name it."""
        return f"{self.name}-sm_{self.arch}"


def load_provider(path: str) -> Provider:
    """Import a provider.

    Args:
        path: "module:function".

    Raises:
        ProviderError: the path is malformed, does not import, or names no function.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ProviderError(
            f"provider {path!r}: write it as module:function, such as myengine.kernels:shipped"
        )
    try:
        found: Provider | None = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ProviderError(
            f"provider {path}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ProviderError(f"provider {path}: {module_name} has no function {name}")
    return found


def variants_of(path: str, arch: int) -> dict[str, Callable[[], Described]]:
    """The variants that a provider has for an architecture.

    Raises:
        ProviderError: it cannot be imported, raises, or returns something else.
    """
    provider = load_provider(path)
    try:
        found = dict(provider(arch))
    except Exception as error:
        raise ProviderError(f"provider {path}({arch}) raised {type(error).__name__}: {error}") from error
    for name, describe in found.items():
        if not (isinstance(name, str) and callable(describe)):
            raise ProviderError(
                f"provider {path}({arch}) returned {name!r}: {describe!r:.60}; it returns functions by name, "
                "each of which describes a launch"
            )
    return found


def described(unit: Unit) -> Described:
    """The launch of a unit.

    Raises:
        CompilerError: there is none of this name, or describing it raised.
    """
    describe = variants_of(unit.provider, unit.arch).get(unit.name)
    if describe is None:
        raise CompilerError(f"provider {unit.provider}({unit.arch}) has no variant {unit.name!r}")
    try:
        return describe()
    except Exception as error:
        raise CompilerError(f"describing {unit.shown} raised {type(error).__name__}: {error}") from error

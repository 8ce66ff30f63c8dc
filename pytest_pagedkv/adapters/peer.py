"""Finds the names of an engine that may be missing, the first time that they are needed."""

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Peer"]


class Peer:
    """Names of an engine, as attributes; imported by the first one that is asked for.

    Args:
        distribution: the engine's name on PyPI, for messages.
        names: what to take from each module, such as {"vllm.v1.request": "Request RequestStatus"}.
        without_init: packages, outermost first, whose `__init__` imports what the names do not need, such as
            CUDA kernels. Where one does not import, an empty package with the same path stands in for it.
    """

    def __init__(self, distribution: str, names: Mapping[str, str], without_init: Sequence[str] = ()) -> None:
        self._distribution, self._names, self._without_init = distribution, names, without_init
        self._taken: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """The thing of that name.

        Raises:
            AttributeError: it is none of `names`.
            Exception: whatever importing the engine raises.
        """
        if not any(name in names.split() for names in self._names.values()):
            raise AttributeError(f"this adapter takes no {name} from {self._distribution}")
        self._take()
        return self._taken[name]

    def unavailable(self) -> str:
        """Why the names cannot be had here; "" if they can."""
        return self._reason

    @functools.cached_property
    def _reason(self) -> str:
        packages = sorted({module.partition(".")[0] for module in self._names})
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        try:
            self._take()
        except Exception as error:  # noqa: BLE001 - an engine may raise anything while it is imported
            return (
                f"{self._distribution} {self._version()} is not as expected: {type(error).__name__}: {error}"
            )
        return ""

    def _take(self) -> None:
        if self._taken:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an engine's own warnings are not about the test that imports it
            for package in self._without_init:
                _import_or_stand_in(package)
            self._taken = {
                name: getattr(importlib.import_module(module), name)
                for module, names in self._names.items()
                for name in names.split()
            }

    def _version(self) -> str:
        try:
            return importlib.metadata.version(self._distribution)
        except importlib.metadata.PackageNotFoundError:
            return "of an unknown version"


def _import_or_stand_in(package: str) -> None:
    try:
        importlib.import_module(package)
    except Exception:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            raise
        module = types.ModuleType(package)
        module.__path__ = list(spec.submodule_search_locations)
        sys.modules[package] = module

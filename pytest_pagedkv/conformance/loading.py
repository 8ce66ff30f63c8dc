"""From `--pagedkv-adapter=module:Class`, or from a suite's `adapter` attribute, to the class."""

import importlib
import sys
from pathlib import Path

import pytest

from pytest_pagedkv.adapter import Adapter
from pytest_pagedkv.options import Options

__all__ = ["ADAPTER", "adapter_of", "load", "start"]

ADAPTER = pytest.StashKey[type[Adapter]]()
"""The class that the command line names."""


def start(config: pytest.Config, options: Options) -> None:
    """Find the adapter of this run.

    Raises:
        pytest.UsageError: it cannot be found, or there is none and the suites need one.
    """
    if options.adapter:
        config.stash[ADAPTER] = load(options.adapter, config.invocation_params.dir)
    elif not options.selftest_faults:
        raise pytest.UsageError(
            "pytest_pagedkv.conformance needs an adapter: --pagedkv-adapter=module:Class, such as "
            "--pagedkv-adapter=pytest_pagedkv.adapters.pagedkv:PagedKVAdapter"
        )


def load(path: str, folder: Path) -> type[Adapter]:
    """Import a class by its path, such as "myengine.testing:MyAdapter".

    Args:
        path: module and class.
        folder: where pytest was started; modules are found there too, as `python -m` finds them.

    Raises:
        pytest.UsageError: the path is malformed, does not import, or names no adapter class.
    """
    module_name, colon, class_name = path.partition(":")
    if not (module_name and colon and class_name):
        raise pytest.UsageError(
            f"--pagedkv-adapter={path}: write it as module:Class, such as myengine.testing:MyAdapter"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise pytest.UsageError(
            f"--pagedkv-adapter={path}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, class_name, None)
    if found is None:
        names = [name for name, value in vars(module).items() if _is_adapter(value)]
        there = f"its adapters are {', '.join(names)}" if names else "it defines no adapter"
        raise pytest.UsageError(f"--pagedkv-adapter={path}: {module_name} has no {class_name}; {there}")
    if not _is_adapter(found):
        raise pytest.UsageError(
            f"--pagedkv-adapter={path}: {class_name} is {found!r}, not a subclass of KVCacheAdapter "
            "(pytest_pagedkv.adapter) or of another kind of adapter"
        )
    adapter: type[Adapter] = found
    return adapter


def _is_adapter(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Adapter)


def adapter_of(request: pytest.FixtureRequest) -> type[Adapter]:
    """The class that a test of a suite is about: the suite's own, or that of the command line."""
    suite = request.cls
    wanted: type[Adapter] = getattr(suite, "adapter_type", Adapter)
    adapter = getattr(suite, "adapter", None) or request.config.stash.get(ADAPTER, None)
    if adapter is None:
        pytest.fail(
            f"no adapter: set `adapter = MyAdapter` in {getattr(suite, '__name__', 'the suite')}, "
            "or give --pagedkv-adapter=module:Class",
            pytrace=False,
        )
    if not (isinstance(adapter, type) and issubclass(adapter, wanted)):
        pytest.fail(f"{adapter!r} is not a {wanted.__name__}, which {suite.__name__} tests", pytrace=False)
    try:
        reason = adapter.unavailable()
    except Exception as error:  # noqa: BLE001 - whatever it is, the failure is the adapter's
        what = f"{type(error).__name__}: {error}"
        text = f"{adapter.__name__}.unavailable() raised {what}; it must return a reason, or an empty string"
        raise pytest.fail.Exception(text, pytrace=False) from None
    if reason:
        pytest.skip(f"{adapter.__name__}: {reason}")
    checked: type[Adapter] = adapter
    return checked

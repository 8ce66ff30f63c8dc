"""A process that compiles: `python -m pytest_pagedkv.compiler.worker FOLDER LOG`.

It reads a request a line and answers with a line, both JSON. Whatever anything else writes goes to the log,
where the compiler's last words are found, also after a crash.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from pytest_pagedkv.compiler.cache import Cache
from pytest_pagedkv.compiler.errors import CompilerError
from pytest_pagedkv.compiler.variant import Unit, variants_of

__all__ = ["main"]

_OPTIONAL = ("torch", "triton")


class _Tasks:
    """What can be asked for."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def toolchain(self) -> dict[str, Any]:
        """Version of Triton, and what is missing to compile with it."""
        import triton

        from pytest_pagedkv.compiler.compiling import tools

        missing = tools().missing
        problem = f"Triton {triton.__version__} comes without {', '.join(missing)}" if missing else ""
        return {"triton": triton.__version__, "problem": problem}

    def names(self, provider: str, arch: int) -> list[str]:
        """Of a provider's variants."""
        return list(variants_of(provider, arch))

    def compile(self, provider: str, name: str, arch: int) -> dict[str, Any]:
        """The figures of a variant."""
        from pytest_pagedkv.compiler.compiling import compile_unit

        resources, is_cached = compile_unit(Unit(provider, name, arch), self._cache)
        return {"resources": asdict(resources), "is_cached": is_cached}


def main(folder: str, log: str) -> None:
    """Answer until there are no more requests."""
    requests, answers = _own_channels(log)
    tasks = _Tasks(Cache(Path(folder)))
    for line in requests:
        print(json.dumps(_answer(tasks, json.loads(line))), file=answers, flush=True)


def _answer(tasks: _Tasks, request: Mapping[str, Any]) -> dict[str, Any]:
    sys.path += [entry for entry in request["path"] if entry not in sys.path]
    task: Callable[..., Any] = getattr(tasks, request["task"])
    try:
        return {"value": task(**request["arguments"])}
    except Exception as error:  # noqa: BLE001 - the compiler raises what it likes, and the other side tells it
        return {"error": _told(error), "missing": _missing(error)}


def _told(error: Exception) -> str:
    """An error of ours speaks for itself."""
    return str(error) if isinstance(error, CompilerError) else f"{type(error).__name__}: {error}"


def _missing(error: BaseException | None) -> str:
    """The package for want of which it failed, if it is one that need not be there."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name in _OPTIONAL:
            return str(error.name)
        error = error.__cause__
    return ""


def _own_channels(log: str) -> tuple[TextIOWrapper, TextIOWrapper]:
    """The two pipes; file descriptors 0 to 2, which compilers write to as they like, are other ones then."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    empty, file = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for source, target in ((empty, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    return requests, answers


if __name__ == "__main__":
    main(*sys.argv[1:])

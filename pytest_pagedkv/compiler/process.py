"""The other end of a worker process."""

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pytest_pagedkv.compiler.errors import CompilerError

__all__ = ["MissingPackage", "WorkerProcess"]

_LAST_LINES = 25


class MissingPackage(CompilerError):
    """A package that need not be there is not."""


class WorkerProcess:
    """One worker; it starts with the first request, and again after it broke.

    Args:
        cache: folder of the figures that are kept.
        timeout_s: limit of one request.
    """

    def __init__(self, cache: Path, timeout_s: float) -> None:
        self._cache = cache
        self._timeout_s = timeout_s
        self._folder = TemporaryDirectory(prefix="pagedkv-")
        self._process: subprocess.Popen[str] | None = None

    def ask(self, task: str, **arguments: Any) -> Any:
        """The answer to one request.

        Raises:
            MissingPackage: torch or triton is not installed.
            CompilerError: it could not be answered; with the last lines that were written meanwhile.
        """
        start = self._log.stat().st_size if self._log.exists() else 0
        answer, fate = self._answer({"task": task, "arguments": arguments, "path": sys.path})
        if "value" in answer:
            return answer["value"]
        if answer.get("missing"):
            raise MissingPackage(f"{answer['missing']} is not installed")
        told = answer.get("error", f"the compiler {fate}").splitlines()
        raise CompilerError("\n".join([*_last(told), *self._written_since(start)]))

    def close(self) -> None:
        """End the process, whatever it does, and clear up."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, "log")

    def _answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The answer, empty where there is none, and then what became of the process."""
        process = self._process = self._process or self._started()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        line, is_late = "", False
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=stdin, flush=True)
            is_late = not select.select([stdout], [], [], self._timeout_s)[0]
            line = "" if is_late else stdout.readline()
        if line:
            return json.loads(line), ""
        code = None if is_late else process.wait()
        self._end()
        return {}, f"took more than {self._timeout_s:g} s" if is_late else f"ended its process (code {code})"

    def _started(self) -> subprocess.Popen[str]:
        """Compile for real, whatever the tests do, and keep Triton's own files out of the user's cache."""
        environment = {**os.environ, "TRITON_CACHE_DIR": str(Path(self._folder.name, "triton"))}
        environment.pop("TRITON_INTERPRET", None)
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "pytest_pagedkv.compiler.worker", str(self._cache), str(self._log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def _written_since(self, start: int) -> list[str]:
        """The last lines of what compilers wrote."""
        if not self._log.exists():
            return []
        return _last(self._log.read_bytes()[start:].decode(errors="replace").splitlines())


def _last(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip()][-_LAST_LINES:]

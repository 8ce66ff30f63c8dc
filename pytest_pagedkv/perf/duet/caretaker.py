"""Whatever happens to the process that decides, its timing processes and worktrees go with it.

The caretaker is a process of its own, in a session of its own, that is told what there is to clear away. It
does so when the pipe to it closes: at the end of a run, after Ctrl-C, and after a kill that nobody can catch.
Run as a script, this file needs the standard library only.
"""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Caretaker"]

_PROCESS, _DONE, _FOLDER, _WORKTREE = "process", "done", "folder", "worktree"


class Caretaker:
    """A context in which processes and folders can be left to the caretaker; it ends when they are gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._process.wait()

    def watch_process(self, process_group: int) -> None:
        """Kill this process group at the end."""
        self._tell(_PROCESS, str(process_group))

    def forget_process(self, process_group: int) -> None:
        """This process group has ended: its number may become another's."""
        self._tell(_DONE, str(process_group))

    def watch_folder(self, folder: Path) -> None:
        """Delete this folder at the end."""
        self._tell(_FOLDER, str(folder))

    def watch_worktree(self, repository: Path, folder: Path) -> None:
        """Remove this worktree of a git repository at the end."""
        self._tell(_WORKTREE, str(repository), str(folder))

    def _tell(self, *words: str) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write("\0".join(words) + "\n")
            stdin.flush()


def _main() -> None:
    """Listen until the pipe closes; then clear away, processes first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = [line.rstrip("\n").split("\0") for line in sys.stdin]
    processes = {words[1] for words in told if words[0] == _PROCESS}
    for words in told:
        if words[0] == _DONE:
            processes.discard(words[1])
    for group in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(group), signal.SIGKILL)
    for kind, *arguments in told:
        if kind == _WORKTREE:
            _remove_worktree(*arguments)
        elif kind == _FOLDER:
            shutil.rmtree(arguments[0], ignore_errors=True)


def _remove_worktree(repository: str, folder: str) -> None:
    """By hand where git does not: then it only has to notice that the folder is gone."""
    git = ["git", "-C", repository, "worktree"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    subprocess.run([*git, "remove", "--force", "--force", folder], **silent)  # type: ignore[call-overload] # noqa: S603
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([*git, "prune"], **silent)  # type: ignore[call-overload] # noqa: S603


if __name__ == "__main__":
    _main()

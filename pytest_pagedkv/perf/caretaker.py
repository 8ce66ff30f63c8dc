"""Whatever happens to the process that decides, its other processes and worktrees go with it.

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

__all__ = ["POINTERS", "Caretaker", "remove_worktree"]

POINTERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
"""Variables by which a git hook points every git command to its own repository."""

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
            remove_worktree(*arguments)
        elif kind == _FOLDER:
            shutil.rmtree(arguments[0], ignore_errors=True)


def remove_worktree(repository: str, folder: str) -> None:
    """Remove a worktree and what the repository knows of it, and nothing of any other worktree.

    `git worktree prune` would forget others too: those on a disk that is not there at the moment.
    """
    _git(repository, "worktree", "remove", "--force", "--force", folder)
    shutil.rmtree(folder, ignore_errors=True)
    common = _git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    for entry in Path(common, "worktrees").glob("*/gitdir") if common else ():
        with suppress(OSError):
            if Path(entry.read_text().strip()) == Path(folder, ".git"):
                shutil.rmtree(entry.parent, ignore_errors=True)


def _git(repository: str, *arguments: str) -> str:
    with suppress(OSError):
        done = subprocess.run(  # noqa: S603 - arguments are ours
            ["git", "-C", repository, *arguments],  # noqa: S607 - the user's git
            env={name: value for name, value in os.environ.items() if name not in POINTERS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        return done.stdout.strip()
    return ""


if __name__ == "__main__":
    _main()

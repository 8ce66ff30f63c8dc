"""Asking git."""

import os
from pathlib import Path

from pytest_pagedkv.baselines.git import run_git
from pytest_pagedkv.perf.duet.process import DuetError

__all__ = ["git"]


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command; names that users give are behind --end-of-options.

    Raises:
        DuetError: git says no.
        FileNotFoundError: there is no git.
    """
    done = run_git(folder, *arguments)
    if done.returncode:
        said = os.fsdecode(done.stderr).strip() or f"exit code {done.returncode}"
        command = next(word for word in arguments if not word.startswith("-") and "=" not in word)
        raise DuetError(f"git {command}: {'; '.join(said.splitlines()[-3:])}")
    return os.fsdecode(done.stdout).strip()

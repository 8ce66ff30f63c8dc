"""Asking git."""

import os
import subprocess
from pathlib import Path

from pytest_pagedkv.perf.caretaker import POINTERS
from pytest_pagedkv.perf.duet.process import DuetError

__all__ = ["git"]


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command; variables by which a hook points git elsewhere are left out.

    Raises:
        DuetError: git says no.
        FileNotFoundError: there is no git.
    """
    done = subprocess.run(  # noqa: S603 - arguments are ours, or a name behind --end-of-options
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's git
        env={name: value for name, value in os.environ.items() if name not in POINTERS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        command = next(word for word in arguments if not word.startswith("-") and "=" not in word)
        raise DuetError(f"git {command}: {'; '.join(said.splitlines()[-3:])}")
    return done.stdout.strip()

"""Running git."""

import os
import subprocess
from pathlib import Path

__all__ = ["run_git"]

_POINTERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
"""Variables by which a git hook points every git command to its own repository."""


def run_git(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder, as if it were not started by one of its hooks, and in English.

    Args:
        folder: where.
        *arguments: ours; a name that a user gave must not look like an option.
        given: what it reads.

    Raises:
        FileNotFoundError: there is no git.
    """
    return subprocess.run(  # noqa: S603 - see the arguments
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
        input=given,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name not in _POINTERS} | {"LC_ALL": "C"},
        check=False,
    )

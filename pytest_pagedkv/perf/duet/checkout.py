"""Where the code of both sides is: this tree, and a git worktree, another checkout, or this tree again."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_pagedkv.perf.duet.caretaker import Caretaker
from pytest_pagedkv.perf.duet.process import DuetError

__all__ = ["Checkout", "find_base", "find_head"]

_PREFIX = "pagedkv-base-"
_OWNER = "pagedkv-owner"
_SHORT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One side's code.

    Attributes:
        top: its outermost folder.
        shown: its name in messages, such as "origin/main@abc1234".
    """

    top: Path
    shown: str


def find_head(root: Path) -> Checkout:
    """The tree that pytest runs in.

    Args:
        root: pytest's root directory.
    """
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel"))
        commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        is_dirty = bool(_git(top, "status", "--porcelain", "--untracked-files=no"))
    except (DuetError, OSError):
        return Checkout(top=root, shown=str(root))
    return Checkout(top=top, shown=commit[:_SHORT] + (" with local changes" if is_dirty else ""))


@contextmanager
def find_base(named: str, head: Checkout, here: Path, caretaker: Caretaker) -> Iterator[Checkout]:
    """What `--pagedkv-against` names: a folder, or a git commit, which gets a worktree meanwhile.

    A name that is both is a commit, unless it has a slash at its end or begins with a dot or a slash.

    Args:
        named: the option's value.
        head: the other side.
        here: where relative paths start.
        caretaker: removes the worktree.

    Raises:
        DuetError: there is no such thing, or no git to ask.
    """
    folder = (here / named).resolve()
    if named.startswith((".", "/")) or named.endswith("/"):
        yield _other_checkout(folder, named, head)
        return
    try:
        commit = _resolved(named, head.top)
    except DuetError:
        if not folder.is_dir():
            raise
        yield _other_checkout(folder, named, head)
        return
    shown = commit[:_SHORT] if commit.startswith(named) else f"{named}@{commit[:_SHORT]}"
    yield Checkout(top=_worktree(head.top, commit, caretaker), shown=shown)


def _other_checkout(folder: Path, named: str, head: Checkout) -> Checkout:
    if not folder.is_dir():
        raise DuetError(f"--pagedkv-against={named}: there is no such folder")
    if folder == head.top.resolve():
        raise DuetError(
            f"--pagedkv-against={named} is the tree that is being tested; name another checkout or a commit, "
            "or compare it with itself by --pagedkv-selftest"
        )
    return Checkout(top=folder, shown=named)


def _resolved(named: str, top: Path) -> str:
    """The commit; `REF...` is the merge base of REF and HEAD, as `git diff` has it."""
    ref = named.removesuffix("...")
    try:
        commit = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        return commit if ref == named else _git(top, "merge-base", commit, "HEAD")
    except FileNotFoundError as error:
        raise DuetError(
            f"--pagedkv-against={named} needs git, and there is no command git; install it, or name the "
            "folder of another checkout"
        ) from error
    except DuetError as error:
        raise DuetError(f"--pagedkv-against={named}: {_why_unknown(named, ref, top)}") from error


def _why_unknown(named: str, ref: str, top: Path) -> str:
    try:
        is_shallow = _git(top, "rev-parse", "--is-shallow-repository") == "true"
    except DuetError as error:
        return (
            f"{top} is not a git repository that can be read ({error}); name the folder of another checkout"
        )
    what = f"{ref} and HEAD have no merge base" if ref != named else f"there is no commit or folder {ref}"
    remedy = (
        f"`git fetch --depth=1 origin {ref.removeprefix('origin/')}`, and name what it fetched: FETCH_HEAD"
    )
    if is_shallow:
        return f"{what} in this shallow clone; get it by {remedy} (`git fetch --unshallow` for a merge base)"
    return f"{what} here; `git branch --all` lists names; a branch of the remote may need `git fetch`"


def _worktree(top: Path, commit: str, caretaker: Caretaker) -> Path:
    """A new worktree in the folder for temporary files, which the caretaker will remove."""
    _sweep(top)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    caretaker.watch_folder(folder)
    (folder / _OWNER).write_text(str(os.getpid()))
    worktree = folder / top.name
    caretaker.watch_worktree(top, worktree)
    # Without hooks: they are for people who check something out.
    _git(top, "-c", f"core.hooksPath={os.devnull}", "worktree", "add", "--detach", str(worktree), commit)
    return worktree


def _sweep(top: Path) -> None:
    """Remove what runs left behind that were killed together with their caretaker."""
    for line in _git(top, "worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and folder.parent.name.startswith(_PREFIX):
            with suppress(OSError, ValueError, DuetError):
                if not _is_running(int((folder.parent / _OWNER).read_text())):
                    _git(top, "worktree", "remove", "--force", "--force", str(folder))
                    (folder.parent / _OWNER).unlink()
                    folder.parent.rmdir()
    _git(top, "worktree", "prune")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command; variables by which a hook points git elsewhere are left out.

    Raises:
        DuetError: git says no.
        FileNotFoundError: there is no git.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(  # noqa: S603 - arguments are ours, or a name behind --end-of-options
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's git
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()
        raise DuetError(f"git {arguments[0]}: {said[-1]}")
    return done.stdout.strip()

"""Where the code of both sides is: this tree, and a git worktree, another checkout, or this tree again."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_pagedkv.perf.caretaker import Caretaker, remove_worktree
from pytest_pagedkv.perf.duet.git import git
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
        is_given: somebody else checked it out.
    """

    top: Path
    shown: str
    is_given: bool = False


def find_head(root: Path) -> Checkout:
    """The tree that pytest runs in.

    Args:
        root: pytest's root directory.
    """
    try:
        top = Path(git(root, "rev-parse", "--show-toplevel")).resolve()
    except (DuetError, OSError):
        top = root.resolve()
    return Checkout(top=top, shown=_shown(top))


@contextmanager
def find_base(named: str, head: Checkout, root: Path, here: Path, caretaker: Caretaker) -> Iterator[Checkout]:
    """What `--pagedkv-against` names: a folder, or a git commit, which gets a worktree meanwhile.

    A name that is both is a commit, unless it has a slash at its end or begins with a dot or a slash.

    Args:
        named: the option's value.
        head: the other side.
        root: pytest's root directory, in the head.
        here: where relative paths start.
        caretaker: removes the worktree.

    Raises:
        DuetError: there is no such thing, or no git to ask.
    """
    folder = (here / named).resolve()
    if named.startswith((".", "/")) or named.endswith("/"):
        yield _other_checkout(folder, named, head, root)
        return
    try:
        commit = _resolved(named, head.top)
    except DuetError:
        if not folder.is_dir():
            raise
        yield _other_checkout(folder, named, head, root)
        return
    shown = commit[:_SHORT] if commit.startswith(named) else f"{named}@{commit[:_SHORT]}"
    yield Checkout(top=_worktree(head.top, commit, caretaker), shown=shown)


def _other_checkout(folder: Path, named: str, head: Checkout, root: Path) -> Checkout:
    """The folder is that of a whole repository, or of the project in it, where that is a part of one."""
    if not folder.is_dir():
        raise DuetError(f"--pagedkv-against={named}: there is no such folder")
    inside = root.relative_to(head.top)
    tops = [folder]
    if inside.parts and folder.parts[-len(inside.parts) :] == inside.parts:
        tops.append(folder.parents[len(inside.parts) - 1])
    top = next((each for each in tops if (each / inside).is_dir()), None)
    if top is None:
        raise DuetError(
            f"--pagedkv-against={named}: {folder} has no folder {inside}, where the project is here"
        )
    if head.top in (top, folder):
        raise DuetError(
            f"--pagedkv-against={named} is the tree that is being tested; name another checkout or a commit, "
            "or compare it with itself by --pagedkv-selftest"
        )
    if _overlap(top, head.top) and not (top / ".git").exists():
        raise DuetError(
            f"--pagedkv-against={named}: {top} and the tree that is being tested, {head.top}, are parts of "
            "one another; name a checkout of its own"
        )
    return Checkout(top=top, shown=f"{named} ({_shown(top)})", is_given=True)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _shown(top: Path) -> str:
    """A tree's commit, and whether it has changes; "no git" where there is none."""
    try:
        commit = git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        is_dirty = bool(git(top, "status", "--porcelain"))
    except (DuetError, OSError):
        return "not in git"
    return commit[:_SHORT] + (" with local changes" if is_dirty else "")


def _resolved(named: str, top: Path) -> str:
    """The commit; `REF...` is the merge base of REF and HEAD, as `git diff` has it."""
    ref = named.removesuffix("...")
    try:
        commit = git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        return commit if ref == named else git(top, "merge-base", commit, "HEAD")
    except FileNotFoundError as error:
        raise DuetError(
            f"--pagedkv-against={named} needs git, and there is no command git; install it, or name the "
            "folder of another checkout"
        ) from error
    except DuetError as error:
        raise DuetError(f"--pagedkv-against={named}: {_why_unknown(named, ref, top)}") from error


def _why_unknown(named: str, ref: str, top: Path) -> str:
    try:
        is_shallow = git(top, "rev-parse", "--is-shallow-repository") == "true"
    except DuetError as error:
        return (
            f"{top} is not a git repository that can be read ({error}); name the folder of another checkout"
        )
    what = f"{ref} and HEAD have no merge base" if ref != named else f"there is no commit or folder {ref}"
    if is_shallow and set("~^@") & set(ref):
        return f"{what} in this shallow clone; get more of it by `git fetch --deepen=50`"
    if is_shallow:
        name = ref.removeprefix("origin/")
        remedy = f"`git fetch --depth=1 origin {name}`, and name what it fetched: FETCH_HEAD"
        return f"{what} in this shallow clone; get it by {remedy} (`git fetch --unshallow` for a merge base)"
    return f"{what} here; `git branch --all` lists names; a branch of the remote may need `git fetch`"


def _worktree(top: Path, commit: str, caretaker: Caretaker) -> Path:
    """A new worktree in the folder for temporary files, which the caretaker will remove."""
    _sweep(top)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        caretaker.watch_folder(folder)
        (folder / _OWNER).write_text(str(os.getpid()))
    except OSError as error:
        raise DuetError(
            f"{tempfile.gettempdir()} takes no worktree for the base: {error.strerror}"
        ) from error
    worktree = folder / top.name
    caretaker.watch_worktree(top, worktree)
    try:
        # Without hooks: they are for people who check something out.
        quiet = ("-c", f"core.hooksPath={os.devnull}")
        git(top, *quiet, "worktree", "add", "--detach", str(worktree), commit)
    except DuetError as error:
        free_mb = shutil.disk_usage(folder).free >> 20
        raise DuetError(
            f"the base cannot be checked out in {folder} ({free_mb} MiB free; TMPDIR chooses another place): "
            f"{error}"
        ) from error
    if (worktree / ".gitmodules").exists():
        _check_out_submodules(worktree)
    return worktree


def _check_out_submodules(worktree: Path) -> None:
    try:
        git(worktree, "submodule", "update", "--init", "--recursive")
    except DuetError as error:
        raise DuetError(
            f"the base has submodules, and they cannot be checked out ({error}); name the folder of a "
            "checkout that has them"
        ) from error


def _sweep(top: Path) -> None:
    """Remove what runs left behind that were killed together with their caretaker."""
    for line in git(top, "worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree "))
        if line.startswith("worktree ") and folder.parent.name.startswith(_PREFIX):
            with suppress(OSError, ValueError):
                if not _is_running(int((folder.parent / _OWNER).read_text())):
                    remove_worktree(str(top), str(folder))
                    shutil.rmtree(folder.parent)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

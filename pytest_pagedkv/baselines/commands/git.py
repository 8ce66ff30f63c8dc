"""A git repository, read and never changed."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.git import run_git

__all__ = ["Commit", "Repository"]

_FILE_MODES = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, and the words by which the user named it."""

    name: str
    sha: str

    def __str__(self) -> str:
        return f"{self.name}@{self.sha[:7]}"


class Repository:
    """The repository around a folder.

    Args:
        folder: a folder; it need not exist any more.

    Raises:
        BaselineError: git is missing, or the folder is in no repository, or not in one that git trusts.
    """

    def __init__(self, folder: Path) -> None:
        inside = next(path for path in (folder, *folder.parents) if path.is_dir())
        done = _git(inside, "rev-parse", "--show-toplevel")
        if done.returncode:
            raise BaselineError(f"{inside} is in no git repository that can be read ({_complaint(done)})")
        self.top = Path(os.fsdecode(done.stdout).removesuffix("\n"))

    def commit(self, name: str) -> Commit | None:
        """The commit that a ref names; "A...B" and "A..." are the merge base of A with B or HEAD.

        Raises:
            BaselineError: the two have no common commit.
        """
        left, dots, right = name.partition("...")
        found = [self._sha(ref or "HEAD") for ref in ((left, right) if dots else (name,))]
        shas = [sha for sha in found if sha is not None]
        if len(shas) < len(found):
            return None
        return Commit(name, self._merge_base(name, *shas) if dots else shas[0])

    def is_shallow(self) -> bool:
        """History was cut off when the repository was cloned."""
        return self._said("rev-parse", "--is-shallow-repository") == "true"

    def refs(self) -> list[str]:
        """Short names of all branches and tags."""
        return self._said("for-each-ref", "--format=%(refname:short)").split()

    def files(self, commit: Commit, folder: Path) -> dict[PurePosixPath, bytes]:
        """Contents of the JSON files below a folder, by their path in it; none if there is no such folder.

        Raises:
            BaselineError: the folder is not in this repository, or no folder there.
        """
        inside = self._path_inside(folder)
        below = [] if inside == "." else ["--", inside]
        listing = self._output("ls-tree", "-r", "-z", "--full-tree", commit.sha, *below)
        blobs: dict[PurePosixPath, str] = {}
        for line in filter(None, listing.split(b"\0")):
            about, _, path = line.partition(b"\t")
            mode, _, sha = about.decode().split()
            within = PurePosixPath(os.fsdecode(path)).relative_to(inside)
            if within.name == "" or mode not in _FILE_MODES:
                raise BaselineError(
                    f"{commit}:{os.fsdecode(path)} is a link or a submodule or no folder, which is not "
                    "followed; name a commit in which it is an ordinary folder of files"
                )
            if within.suffix == ".json":
                blobs[within] = sha
        return dict(zip(blobs, self._blobs(list(blobs.values())), strict=True))

    def _path_inside(self, folder: Path) -> str:
        try:
            return folder.resolve().relative_to(self.top.resolve()).as_posix()
        except ValueError:
            raise BaselineError(f"{folder} is not in the git repository {self.top}") from None

    def _blobs(self, shas: list[str]) -> list[bytes]:
        """Contents, in the order of the names."""
        output = self._output("cat-file", "--batch", given="".join(f"{sha}\n" for sha in shas).encode())
        contents, start = [], 0
        for _ in shas:
            end = output.index(b"\n", start)
            size = int(output[start:end].split()[2])
            contents.append(output[end + 1 : end + 1 + size])
            start = end + 1 + size + 1
        return contents

    def _sha(self, ref: str) -> str | None:
        if ref.startswith("-") or ".." in ref:  # an option or a range, which no name of a commit can be
            return None
        return self._said("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}") or None

    def _merge_base(self, name: str, left: str, right: str) -> str:
        if found := self._said("merge-base", left, right):
            return found
        advice = "fetch more of the history with `git fetch --unshallow`" if self.is_shallow() else "name one"
        raise BaselineError(f"{name}: the two have no commit in common here; {advice}")

    def _said(self, *arguments: str) -> str:
        """The answer, or "" where git has none."""
        return os.fsdecode(_git(self.top, *arguments).stdout).strip()

    def _output(self, *arguments: str, given: bytes = b"") -> bytes:
        done = _git(self.top, *arguments, given=given)
        if done.returncode:
            raise BaselineError(f"git {arguments[0]} failed in {self.top} ({_complaint(done)})")
        return done.stdout


def _git(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return run_git(folder, *arguments, given=given)
    except FileNotFoundError:
        raise BaselineError(
            "git is not installed, or not on PATH: without it, folders and run files can be compared, "
            "and commits cannot"
        ) from None


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").splitlines()
    return lines[0] if lines else f"exit code {done.returncode}"

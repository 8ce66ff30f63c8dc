"""What `diff` compares: a folder, a commit, or a run, by the one word that the user gives."""

import os
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.git import Commit, Repository
from pytest_pagedkv.baselines.commands.runfile import read_run
from pytest_pagedkv.baselines.commands.snapshot import KINDS, Snapshot, check_folder, folder_snapshot

__all__ = ["snapshot_of"]


def snapshot_of(word: str, folder: str) -> Snapshot:
    """The baselines that a word names.

    Args:
        word: a folder of baselines, a run file, or a commit; what is both is a path if it contains a
            separator or starts with a dot, and else a commit.
        folder: the folder of baselines that is looked for in a commit.

    Raises:
        BaselineError: it names nothing, or what it names cannot be read.
    """
    path = Path(word)
    is_path = path.exists()
    if not (is_path and (os.sep in word or word.startswith("."))):
        found = _in_git(word, Path(folder).absolute(), is_path=is_path)
        if found is not None:
            return _commit_snapshot(*found, folder)
    if not path.is_dir():
        return read_run(path, word).snapshot()
    check_folder(path, word)
    return folder_snapshot(path, word)


def _in_git(word: str, folder: Path, *, is_path: bool) -> tuple[Repository, Commit] | None:
    """The commit of this name; None if there is none, and a path of this name is what is meant.

    Raises:
        BaselineError: there is neither.
    """
    try:
        repository = Repository(folder)
        commit = repository.commit(word)
    except BaselineError as error:
        if is_path:
            return None
        raise BaselineError(f"{word!r} is no file or folder here, and no commit: {error}") from error
    if commit is not None:
        return repository, commit
    if is_path:
        return None
    raise BaselineError(_unknown(word, repository))


def _unknown(word: str, repository: Repository) -> str:
    asked = f"{word!r} is neither a file or folder here, nor a commit of {repository.top}"
    if ".." in word.replace("...", ""):
        return f"{asked}: give the two ends of a range as two arguments, or A...B for their merge base"
    if repository.is_shallow():
        return (
            f"{asked}, which is a shallow clone: get all of its history with `git fetch --unshallow` "
            "(actions/checkout: fetch-depth: 0), or one commit with `git fetch --depth=1 origin NAME`, "
            "which is then called FETCH_HEAD"
        )
    near = [ref for ref in repository.refs() if ref.endswith(f"/{word}")]
    near = near or get_close_matches(word, repository.refs(), n=3)
    return asked + (f"; near ones: {', '.join(near)}" if near else "; `git fetch` gets what others pushed")


def _commit_snapshot(repository: Repository, commit: Commit, folder: str) -> Snapshot:
    """The baselines of a commit, by way of a temporary folder so that they are read like any others."""
    with TemporaryDirectory(prefix="pagedkv-") as name:
        for path, content in repository.files(commit, Path(folder)).items():
            if path.parts[0] in KINDS:
                target = Path(name, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        return folder_snapshot(Path(name), f"{commit}:{Path(folder).as_posix()}", str(commit))

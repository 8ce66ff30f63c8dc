"""Whether each side imported its own tree: code compared with itself never differs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_pagedkv.perf.duet.process import DuetError

__all__ = ["check_modules"]

_LAYOUTS = ("", "src", "python", "lib")
"""Folders in which projects keep their packages."""


def check_modules(modules: Mapping[str, Mapping[str, str]], base: Path, head: Path, root: Path) -> None:
    """Look at where the modules of both processes came from.

    Args:
        modules: file by name of each module that a side imported, by side.
        base: outermost folder of the base.
        head: that of the head.
        root: where the project is in them.

    Raises:
        DuetError: a side imported the other's tree, or what is installed in place of its own.
    """
    if base == head:
        return
    for side, own, other in (("base", base, head), ("head", head, base)):
        folders = [folder for layout in _LAYOUTS if (folder := own / root / layout).is_dir()]
        for name, file in modules[side].items():
            path = Path(file)
            if _is_of(path, other, own):
                raise _refusal(side, name, file)
            if not path.is_relative_to(own) and _is_copy(path, name, folders):
                raise _refusal(side, name, file)


def _is_of(path: Path, tree: Path, own: Path) -> bool:
    """The file is of that tree, and not of the side's own, whichever is inside of the other."""
    if not path.is_relative_to(tree) or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not path.is_relative_to(own) or tree.is_relative_to(own)


def _is_copy(path: Path, name: str, folders: Sequence[Path]) -> bool:
    """The module was installed from such a tree: the tree has the same text under the same name."""
    try:
        text = path.read_bytes()
        return bool(text.strip()) and any(there.read_bytes() == text for there in _places(name, folders))
    except OSError:
        return False


def _places(name: str, folders: Sequence[Path]) -> Iterator[Path]:
    """The files in a tree's folders that could be this module."""
    parts = name.split(".")
    for folder in folders:
        for path in (folder.joinpath(*parts, "__init__.py"), folder.joinpath(*parts).with_suffix(".py")):
            if path.is_file():
                yield path


def _refusal(side: str, name: str, file: str) -> DuetError:
    return DuetError(
        f"the {side} imports {name} from {file}, and not from its own tree, so that the same code would be "
        "compared with itself; install the project as editable (`pip install -e .`), or let tests find it by "
        "pytest's ini value pythonpath"
    )

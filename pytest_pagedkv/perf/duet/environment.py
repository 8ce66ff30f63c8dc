"""What a timing process starts with, so that each side imports its own tree and nothing else differs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_pagedkv.perf.child import child_arguments
from pytest_pagedkv.perf.duet.checkout import Checkout
from pytest_pagedkv.perf.duet.process import Command

__all__ = ["Sides"]

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SITE = ("site-packages", "dist-packages")


class Sides:
    """How the processes of both sides are started.

    Args:
        config: of the session that decides.
        head: its tree.
        base: the other one.
        base_python: interpreter of the base's own environment, or "" for this one.
        folder: for files of the processes.
    """

    def __init__(
        self, config: pytest.Config, head: Checkout, base: Checkout, base_python: str, folder: Path
    ) -> None:
        self._config = config
        self._head = head
        self._base = base
        self._base_python = base_python
        self._folder = folder

    def commands(self, hash_seed: str) -> tuple[Command, Command]:
        """Those of base and head, under the same PYTHONHASHSEED."""
        return (
            self._command("base", self._base.top, hash_seed, self._base_python),
            self._command("head", self._head.top, hash_seed, ""),
        )

    def _command(self, side: str, top: Path, hash_seed: str, python: str) -> Command:
        config = self._config
        root = self._moved(config.rootpath, top)
        arguments = child_arguments(
            config,
            self._folder / f"cache-{side}",
            "--capture=no",  # what is printed last is to be seen if the process dies
            f"--rootdir={root}",
            *self._inifile(top),
            python=python or sys.executable,
            given=[self._moved_text(str(argument), top) for argument in config.invocation_params.args],
        )
        return Command(
            side=side,
            arguments=arguments,
            folder=self._existing(self._moved(config.invocation_params.dir, top), root),
            environment=self._environment(top, hash_seed),
        )

    def _environment(self, top: Path, hash_seed: str) -> dict[str, str]:
        path = [str(self._moved(entry, top)) for entry in import_path(self._head.top)]
        given = os.environ.get("PYTHONPATH")
        if given:
            path += [self._moved_text(entry, top) for entry in given.split(os.pathsep)]
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")},
            **dict.fromkeys(_ONE_THREAD, "1"),
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        }

    def _moved(self, path: Path, top: Path) -> Path:
        """The same place in another tree; each tree may be inside of the other."""
        head, real = self._head.top, path.resolve()
        if real.is_relative_to(top) and not head.is_relative_to(top):
            return real
        return top / real.relative_to(head) if real.is_relative_to(head) else path

    def _moved_text(self, text: str, top: Path) -> str:
        """An argument, with a path of the head's tree that it is, or ends in, moved."""
        name, equals, value = text.partition("=")
        if equals and Path(value).is_absolute():
            return f"{name}={self._moved(Path(value), top)}"
        path, colons, test = text.partition("::")
        return str(self._moved(Path(path), top)) + colons + test if Path(path).is_absolute() else text

    def _inifile(self, top: Path) -> list[str]:
        """The same configuration file, or the head's where the other tree has none."""
        given = self._config.inipath
        if given is None:
            return []
        path = self._moved(given, top)
        return ["-c", str(path if path.exists() else given)]

    @staticmethod
    def _existing(folder: Path, otherwise: Path) -> Path:
        return folder if folder.is_dir() else otherwise


def import_path(top: Path) -> list[Path]:
    """The folders of a tree that modules are imported from; setuptools has finders for editable installs."""
    found = [Path(entry).absolute() for entry in sys.path if entry] + list(_editable())
    return [
        path
        for path in dict.fromkeys(found)
        if path.resolve().is_relative_to(top) and path.is_dir() and not set(_SITE) & set(path.parts)
    ]


def _editable() -> Iterator[Path]:
    for finder in sys.meta_path:
        mapping = getattr(sys.modules.get(getattr(finder, "__module__", "")), "MAPPING", None)
        if isinstance(mapping, dict):
            yield from (Path(str(place)).absolute().parent for place in mapping.values())

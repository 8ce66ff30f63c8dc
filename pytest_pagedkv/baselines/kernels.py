"""What the compiler says of kernels, stored by toolchain: an architecture, and a minor version of Triton."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

from pytest_pagedkv.baselines.folder import Folder
from pytest_pagedkv.baselines.schema import KERNELS, Entry, parse, render
from pytest_pagedkv.baselines.store import Store

__all__ = ["Kernels", "kernel_folders"]

_parse = partial(parse, kind=KERNELS)
_render = partial(render, kind=KERNELS)


def kernel_folders(directory: Path, shown: str) -> dict[str, Folder[Entry]]:
    """The files that there are, by toolchain, such as "sm_90_triton3.7"."""
    path = directory / KERNELS
    return {
        file.name.removesuffix(".json"): Folder(path, f"{shown}/{KERNELS}", _parse, _render, file.name)
        for file in sorted(path.glob("*.json"))
    }


class Kernels:
    """The stored figures of kernels, of all toolchains.

    Args:
        directory: the folder of all kinds; it need not exist.
        shown: its name in messages.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, directory: Path, shown: str) -> None:
        self._directory = directory
        self._shown = shown
        self._stored = {name: self._store(name) for name in kernel_folders(directory, shown)}

    def of(self, toolchain: str) -> Store[Entry]:
        """What is stored for a toolchain, which may be nothing."""
        if toolchain not in self._stored:
            self._stored[toolchain] = self._store(toolchain)
        return self._stored[toolchain]

    def elsewhere(self, toolchain: str, key: str) -> list[str]:
        """Toolchains for which this benchmark is stored, where for this one nothing is."""
        if self.of(toolchain).keys():
            return []
        return [name for name, stored in sorted(self._stored.items()) if stored.get(key)]

    def with_versions_of(self, toolchains: Collection[str]) -> set[str]:
        """These, and the stored ones of the same versions of Triton, for whatever architecture."""
        versions = {name.rpartition("_")[2] for name in toolchains}
        return {*toolchains, *(name for name in self._stored if name.rpartition("_")[2] in versions)}

    def check_writable(self) -> None:
        """Try whether the files could be written.

        Raises:
            BaselineError: one could not.
        """
        for stored in self._stored.values():
            stored.check_writable(stored.keys())

    def _store(self, toolchain: str) -> Store[Entry]:
        return Store(self._directory, self._shown, KERNELS, _parse, _render, f"{toolchain}.json")

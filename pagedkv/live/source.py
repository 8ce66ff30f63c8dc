"""Where snapshots come from: a socket, or a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pagedkv.live.client import ask
from pagedkv.live.places import socket_of
from pagedkv.live.snapshots import read_snapshot

__all__ = ["Source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something that has snapshots.

    Attributes:
        name: how people call it.
        is_live: whether the next snapshot is another one.
        fetch: a snapshot with these sections; raises as `ask` and `read_snapshot` do.
    """

    name: str
    is_live: bool
    fetch: Callable[[Sequence[str] | None], dict[str, Any]]

    @classmethod
    def file(cls, path: Path) -> Self:
        """A snapshot that was written."""
        return cls(name=str(path), is_live=False, fetch=lambda _: read_snapshot(path))

    @classmethod
    def at(cls, path: Path) -> Self:
        """The engine at a socket."""
        return cls(name=str(path), is_live=True, fetch=lambda sections: ask(path, sections))

    @classmethod
    def of_process(cls, pid: int | None) -> Self:
        """The one engine of a process, or with None the only one that answers.

        Raises:
            PagedKVError: there is none, or there are several.
        """
        return cls.at(socket_of(pid))

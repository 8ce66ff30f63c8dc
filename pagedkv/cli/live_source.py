"""Options that say whose state is shown: a live engine's, or a snapshot's."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedkv.cli.arguments import positive
from pagedkv.errors import ConfigError, PagedKVError, SnapshotError

if TYPE_CHECKING:
    from pagedkv.live import Source

__all__ = ["add_source", "fetched", "of_whole_snapshot", "source_of"]

EPILOG = """\
An engine can be looked at if it was started with PAGEDKV_DEBUG_SOCKET=1, or made with debug_socket=True.
Where only one answers, it needs no name. docs/live.md has the rest."""
"""Where to get what is shown; for the help of commands."""


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("whose")
    group.add_argument("file", nargs="?", metavar="FILE", help="a snapshot: what --json has printed")
    group.add_argument("--pid", type=positive, metavar="N", help="the engine of this process")
    group.add_argument("--socket", metavar="PATH", help="the engine at this socket")


def source_of(arguments: argparse.Namespace) -> "Source":
    """Where the snapshots come from.

    Raises:
        ConfigError: more than one place is named.
        PagedKVError: there is no engine, or several.
    """
    from pagedkv.live import Source

    named = [each for each in (arguments.file, arguments.pid, arguments.socket) if each is not None]
    if len(named) > 1:
        raise ConfigError("FILE, --pid and --socket each say whose state to show: give one of them")
    if arguments.file is not None:
        return Source.file(Path(arguments.file))
    if arguments.socket is not None:
        return Source.at(Path(arguments.socket))
    return Source.of_process(arguments.pid)


def fetched(arguments: argparse.Namespace, sections: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Whose snapshot it is, and a snapshot with these sections at least.

    Raises:
        SnapshotError: the snapshot has not got them.
        PagedKVError: it cannot be had.
    """
    source = source_of(arguments)
    found = source.fetch(sections)
    if missing := [each for each in sections if each not in found]:
        raise SnapshotError(
            f"{source.name}: the snapshot has no section {missing[0]!r}: it was made without, or by an older "
            "pagedkv"
        )
    return source.name, found


@contextmanager
def of_whole_snapshot(name: str) -> Iterator[None]:
    """Say in one line that a snapshot has not what its version has.

    Raises:
        SnapshotError: showing it failed for that.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, PagedKVError):
            raise
        raise SnapshotError(
            f"{name}: the snapshot is damaged: {type(error).__name__} at {error!s:.80}"
        ) from error

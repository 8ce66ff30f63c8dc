"""`pagedkv baselines`: what is stored, what changed, and what to do about it, without running a test.

One module for each of its commands. None of them imports pytest.
"""

from typing import TYPE_CHECKING

from pytest_pagedkv.baselines.commands import accept, diff, listing, prune

if TYPE_CHECKING:
    import argparse

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines`."""
    parser = commands.add_parser(
        "baselines",
        help="stored performance baselines: list, diff, accept, prune",
        description="Read and change stored performance baselines without running a test.",
    )
    found = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (listing, diff, accept, prune):
        command.add_parser(found)

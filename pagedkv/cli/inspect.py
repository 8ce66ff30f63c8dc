"""`pagedkv inspect`: what the blocks of an engine hold."""

import argparse

from pagedkv.cli.live_source import EPILOG, add_source, fetched, of_whole_snapshot
from pagedkv.cli.output import print_json, print_rich, terminal_width

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Show the pool of an engine and its live requests; with --active-blocks the state of each block, and the blocks
of each sequence. --json prints the snapshot that was shown, for later, or for a colleague."""

_SECTIONS = ("config", "pool", "requests")
_BLOCKS = ("blocks", "tables")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv inspect`."""
    parser = commands.add_parser(
        "inspect",
        help="what the blocks of an engine hold",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--active-blocks", action="store_true", help="each block in use, and who has it")
    parser.add_argument("--json", action="store_true", help="print one JSON object: a snapshot")
    add_source(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, print.

    Raises:
        PagedKVError: there is no such engine or snapshot.
    """
    wanted = (*_SECTIONS, *(_BLOCKS if arguments.active_blocks else ()))
    if arguments.json and arguments.file is None:
        from pagedkv.live import USUAL_SECTIONS

        wanted = tuple(dict.fromkeys((*USUAL_SECTIONS, *wanted)))
    name, found = fetched(arguments, wanted)
    if arguments.json:
        print_json(found)
        return 0
    from pagedkv.cli.views.blocks import inspect_view

    width = terminal_width()
    with of_whole_snapshot(name):
        shown = inspect_view(found, name, width, with_blocks=arguments.active_blocks)
    print_rich(shown, width)
    return 0

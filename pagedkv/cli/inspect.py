"""`pagedkv inspect`: what the blocks of an engine hold."""

import argparse

from pagedkv.cli.live_source import EPILOG, add_source, fetched
from pagedkv.cli.output import print_json

__all__ = ["add_parser", "run"]

_DESCRIPTION = "Show the pool of an engine and its live requests."


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
    """Fetch, print."""
    print_json(fetched(arguments, ("pool", "requests")))
    return 0

"""`pagedkv debug`: what the scheduler and the prefix cache of an engine are doing."""

import argparse

from pagedkv.cli.live_source import EPILOG, add_source, fetched, of_whole_snapshot
from pagedkv.cli.output import print_json, print_rich, terminal_width
from pagedkv.errors import ConfigError

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Show why requests wait, and what the last steps computed; how often the prefix cache hits, what of it is
shared, and what goes next."""

_SCHEDULER = ("scheduler",)
_PREFIX_CACHE = ("prefix_cache", "pool", "history", "stats")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv debug`."""
    parser = commands.add_parser(
        "debug",
        help="why requests wait, and what the prefix cache is good for",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scheduler", action="store_true", help="limits, who waits and why, the last steps")
    parser.add_argument("--prefix-cache", action="store_true", help="size, hits over time, what is shared")
    parser.add_argument("--json", action="store_true", help="print one JSON object: a snapshot")
    add_source(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, print.

    Raises:
        ConfigError: neither of the two was asked for.
        PagedKVError: there is no such engine or snapshot.
    """
    if not arguments.scheduler and not arguments.prefix_cache:
        raise ConfigError("say what to look at: --scheduler, --prefix-cache, or both")
    wanted = (
        *(_SCHEDULER if arguments.scheduler else ()),
        *(_PREFIX_CACHE if arguments.prefix_cache else ()),
    )
    name, found = fetched(arguments, wanted)
    if arguments.json:
        print_json(found)
        return 0
    from pagedkv.cli.views.prefixes import prefix_view
    from pagedkv.cli.views.scheduler import scheduler_view

    width, shown = terminal_width(), []
    with of_whole_snapshot(name):
        if arguments.scheduler:
            shown.append(scheduler_view(found, name))
        if arguments.prefix_cache:
            shown.append(prefix_view(found, name, width))
    for each in shown:
        print_rich(each, width)
    return 0

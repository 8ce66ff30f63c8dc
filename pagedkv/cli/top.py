"""`pagedkv top`: a live view of an engine."""

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from pagedkv.cli.arguments import seconds
from pagedkv.cli.keys import key_pressed, keys
from pagedkv.cli.live_source import EPILOG, add_source, of_whole_snapshot, source_of
from pagedkv.cli.output import print_json, print_rich, terminal_width
from pagedkv.errors import PagedKVError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Group

    from pagedkv.live import Source

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Watch an engine: blocks by state, requests, rates, hits, latencies, offload traffic, GPU memory. q or Ctrl-C
ends it. Where stdout is no terminal, or with --once, it prints once what there is."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv top`."""
    parser = commands.add_parser(
        "top",
        help="what an engine is doing, live",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="seconds between looks (default: 1)"
    )
    parser.add_argument("--once", action="store_true", help="look once, print, end")
    parser.add_argument(
        "--json", action="store_true", help="print a snapshot as one line of JSON at each look"
    )
    add_source(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look and show, until somebody ends it.

    Raises:
        PagedKVError: there is no such engine or snapshot to begin with.
    """
    watched = _Watched(arguments)
    watched.look()
    if watched.trouble:
        raise PagedKVError(watched.trouble)
    is_live = watched.source is not None and watched.source.is_live
    if arguments.once or not is_live or not (sys.stdout.isatty() or arguments.json):
        _show_once(watched, as_json=arguments.json)
    elif arguments.json:
        _stream(watched, arguments.interval)
    else:
        _watch(watched, arguments.interval)
    return 0


class _Watched:
    """An engine that may go away and come back.

    Attributes:
        source: where the last snapshot is from.
        found: the last snapshot.
        trouble: why there is no newer one; empty if there is.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        from pagedkv.cli.views.rates import Rates

        self._arguments = arguments
        self._rates = Rates()
        self.source: Source | None = None
        self.found: dict[str, Any] = {}
        self.trouble = ""

    def look(self) -> None:
        """Take a snapshot, from where there was one, or else from where there is one by now."""
        from pagedkv.cli.views.top import SECTIONS

        wanted = SECTIONS if self.found else (*SECTIONS, "history")
        try:
            try:
                found = self._fetched(self.source or source_of(self._arguments), wanted)
            except PagedKVError:
                if self.source is None:
                    raise
                found = self._fetched(source_of(self._arguments), wanted)
        except PagedKVError as error:
            self.trouble = str(error)
            return
        self.found, self.trouble = found, ""
        with of_whole_snapshot("" if self.source is None else self.source.name):
            self._rates.look(found)

    def screen(self, width: int) -> "Group":
        """What the last snapshot looks like."""
        from rich.console import Group

        from pagedkv.cli.views.top import top_lines

        name = "" if self.source is None else self.source.name
        trouble = "gone; waiting for it to come back" if self.trouble else ""
        with of_whole_snapshot(name):
            return Group(*top_lines(self.found, self._rates, name, width, trouble))

    def _fetched(self, source: "Source", wanted: tuple[str, ...]) -> dict[str, Any]:
        found = source.fetch(wanted)
        if missing := [each for each in wanted if each not in found and each != "usage"]:
            raise SnapshotError(f"{source.name}: the snapshot has no section {missing[0]!r}, which top shows")
        if "usage" not in found:
            with of_whole_snapshot(source.name):
                pool = found["pool"]
                ratio = pool["fragmentation"]["internal_ratio"]
                found["usage"] = {"num_by_state": pool["num_by_state"], "internal_ratio": ratio}
        self.source = source
        return found


def _show_once(watched: _Watched, *, as_json: bool) -> None:
    if as_json:
        print_json(watched.found)
    else:
        width = terminal_width()
        print_rich(watched.screen(width), width)


def _stream(watched: _Watched, interval_s: float) -> None:
    """Snapshots as lines, until whoever reads them goes; the engine's absence is an object, too."""
    while True:
        line = {"error": watched.trouble} if watched.trouble else watched.found
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        time.sleep(interval_s)
        watched.look()


def _watch(watched: _Watched, interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stdout, highlight=False)
    shown: Callable[[], Any] = lambda: watched.screen(console.width)  # noqa: E731 - asked for at each look
    with keys(sys.stdin), Live(shown(), console=console, screen=True, auto_refresh=False) as live:
        while key_pressed(sys.stdin, interval_s) not in ("q", "Q"):
            watched.look()
            live.update(shown(), refresh=True)

"""The command line: each part appends lines to a file, `table` prints what they say."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.measure.gate.injected import PLACES
from tests.measure.gate.table import as_markdown
from tests.measure.gate.trials import Line, count, slowdown, unchanged


def main() -> None:
    """Parse the command line and run one part."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure.gate", description=__doc__)
    parser.add_argument("part", choices=("unchanged", "slowdown", "counters", "table"))
    parser.add_argument(
        "--out", type=Path, default=Path(".pagedkv-perf/gate.jsonl"), help="lines of all parts"
    )
    parser.add_argument("--runs", type=int, default=20, help="runs, or trials of each slowdown")
    parser.add_argument("--load", action="store_true", help="unchanged: with two busy neighbours")
    parser.add_argument("--percent", type=float, nargs="+", default=[5.0, 10.0, 20.0])
    parser.add_argument("--place", choices=[place.name for place in PLACES], nargs="+")
    arguments = parser.parse_args()
    if arguments.part == "table":
        lines = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        sys.stdout.write(as_markdown(lines))
    elif arguments.part == "unchanged":
        _append(arguments.out, unchanged(arguments.runs, is_loaded=arguments.load, say=_say))
    elif arguments.part == "counters":
        _append(arguments.out, count(arguments.runs, say=_say))
    else:
        for place in PLACES:
            if arguments.place is None or place.name in arguments.place:
                _append(arguments.out, slowdown(place, arguments.percent, arguments.runs, _say))


def _append(path: Path, lines: Iterable[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
            file.flush()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()

"""Every planted fault against every seed: is it seen, by which invariant, and after how many calls?

    python -m tests.measure.faults --seeds 20 --profile pagedkv-dev [--first SEED] [--only NAME]

Leaves with 1 unless every fault is seen with every seed, by the invariant that names its class.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.selftest.faults import FAULTS, Fault
from pytest_pagedkv.conformance.cache.selftest.planting import plant, quick

__all__ = ["Seen", "main", "seen_by_seed", "table"]

_NOTHING = "nothing"


@dataclass(slots=True)
class Seen:
    """What the suite saw of a fault.

    Attributes:
        fault: the fault.
        invariants: how often each invariant was broken; "nothing" where none was.
        operations: calls until then, for each seed.
    """

    fault: Fault
    invariants: Counter[str] = field(default_factory=Counter)
    operations: list[int] = field(default_factory=list)

    @property
    def is_killed(self) -> bool:
        """It was seen each time, by its own invariant."""
        return set(self.invariants) == {self.fault.invariant}


def seen_by_seed(fault: Fault, seeds: Sequence[int], how: settings, tick: Callable[[], object]) -> Seen:
    """Plant a fault once for each seed.

    Args:
        fault: the fault.
        seeds: of the random programs.
        how: settings of the search.
        tick: called after each seed.
    """
    seen = Seen(fault)
    for seed in seeds:
        reached = Reached()
        violation = plant(fault, how, seed=seed, reached=reached)
        seen.invariants[_NOTHING if violation is None else violation.invariant] += 1
        # Hypothesis runs the program that fails a second time, to see that it does.
        again = 0 if violation is None or violation.program is None else len(violation.program.calls)
        seen.operations.append(reached.operations - again)
        tick()
    return seen


def table(results: Sequence[Seen]) -> Table:
    """The results, a row for each fault."""
    rows = Table(title="Planted faults")
    for column in ("kind", "fault", "has to break"):
        rows.add_column(column, no_wrap=True)
    rows.add_column("killed", justify="right", no_wrap=True)
    rows.add_column("by others, or by nothing")
    rows.add_column("calls, median", justify="right")
    rows.add_column("most", justify="right")
    for seen in results:
        own, total = seen.invariants[seen.fault.invariant], seen.invariants.total()
        others = [f"{name} {n}" for name, n in seen.invariants.items() if name != seen.fault.invariant]
        calls = (f"{statistics.median(seen.operations):,.0f}", f"{max(seen.operations):,}")
        rows.add_row(
            seen.fault.kind,
            seen.fault.name,
            seen.fault.invariant,
            f"{own}/{total}",
            ", ".join(others),
            *(calls if any(seen.operations) else ("", "")),
            style=None if seen.is_killed else "bold red",
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; gives the exit status."""
    options = _parser().parse_args(arguments)
    chosen = [fault for fault in FAULTS if options.only in f"{fault.kind} {fault.name}"]
    console = Console()
    if not chosen:
        console.print(f"no fault has {options.only!r} in its kind and name")
        return 2
    how, seeds = quick(options.profile), range(options.first, options.first + options.seeds)
    results = []
    with _progress(console) as progress:
        task = progress.add_task("", total=len(chosen) * len(seeds))
        for fault in chosen:
            progress.update(task, description=fault.name)
            results.append(seen_by_seed(fault, seeds, how, lambda: progress.advance(task)))
    console.print(table(results))
    num_killed = sum(seen.is_killed for seen in results)
    console.print(
        f"{num_killed} of {len(results)} faults are seen with each of {len(seeds)} seeds, "
        f"by their own invariant ({options.profile})"
    )
    return 0 if num_killed == len(results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.measure.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many seeds (20)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (0)")
    parser.add_argument("--profile", default="pagedkv-dev", help="Hypothesis profile (pagedkv-dev)")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="only faults with this in their kind and name"
    )
    return parser


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


if __name__ == "__main__":
    sys.exit(main())

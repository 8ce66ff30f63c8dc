"""All about one benchmark: facts, plots, counters."""

from collections.abc import Iterator, Mapping

from pagedkv.report.html import Markup, element, joined
from pytest_pagedkv.baselines import Difference, Verdict
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.report.page.plots import distribution_plot, history_plot, pairs_plot
from pytest_pagedkv.report.page.table import badge
from pytest_pagedkv.report.runfile import Benchmark
from pytest_pagedkv.report.status import Status, effect_of, is_failure
from pytest_pagedkv.report.timings import Duet
from pytest_pagedkv.report.wording import change_of, evidence, percent

__all__ = ["detail"]


def detail(word: Status, benchmark: Benchmark, anchor: str) -> Markup:
    """A part of the page that opens and closes; open at first where the run failed.

    Args:
        word: the benchmark's status.
        benchmark: what to tell.
        anchor: the id of this part.
    """
    effect = effect_of(benchmark)
    title = [badge(word), " ", element("span", benchmark.key, class_="name")]
    if effect is not None:
        title.append(element("span", f" {percent(effect)}", class_="num"))
    facts = [
        joined(element("dt", name), element("dd", text)) for name, text in _facts(word, benchmark) if text
    ]
    return element(
        "details",
        element("summary", *title),
        element("dl", *facts, class_="facts", id=anchor),
        element("div", *_figures(benchmark), class_="plots"),
        *_counters(benchmark),
        class_="bench",
        open=is_failure(word),
    )


def _facts(word: Status, benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    yield "verdict", "" if word is Status.SAME else benchmark.verdict
    yield "time", "; ".join(evidence(benchmark))
    yield "counters", "; ".join(benchmark.details)
    yield "measured", ", ".join(_measured(benchmark))
    yield (
        "test",
        f"{benchmark.file}:{benchmark.line}" if benchmark.file and benchmark.line else benchmark.file,
    )
    yield "group", benchmark.group
    outcomes = benchmark.outcomes
    if set(outcomes.values()) != {"passed"}:
        yield "outcome", ", ".join(f"{phase} {outcome}" for phase, outcome in outcomes.items())


def _measured(benchmark: Benchmark) -> Iterator[str]:
    duet, timing = benchmark.duet, benchmark.timing
    if metric := (duet.metric if duet else "") or benchmark.metric:
        yield f"{metric} time"
    if num_calls := (duet and duet.num_calls) or (timing and timing.num_calls):
        yield f"{counted(num_calls, 'call')} a round"
    if duet is not None and duet.pairs:
        seeds = ", ".join(dict.fromkeys(pair.hash_seed for pair in duet.pairs if pair.hash_seed))
        yield f"{counted(len(duet.pairs), 'pair')} of processes" + (f", hash seeds {seeds}" if seeds else "")


def _figures(benchmark: Benchmark) -> Iterator[Markup]:
    duet, timing, stored = benchmark.duet, benchmark.timing, benchmark.stored
    if duet is not None and duet.pairs:
        yield pairs_plot(duet)
        yield distribution_plot(_both_sides(duet))
    elif timing is not None and timing.samples_ns:
        yield distribution_plot([("this run", "head", timing.samples_ns)])
    if stored is not None and stored.history:
        yield history_plot(stored)


def _both_sides(duet: Duet) -> list[tuple[str, str, tuple[float, ...]]]:
    """The rounds that the effect rests on: of the confirming pairs, if there are any."""
    pairs = [pair for pair in duet.pairs if pair.stage == "confirm"] or duet.pairs
    base = tuple(time for pair in pairs for time in pair.base_ns)
    head = tuple(time for pair in pairs for time in pair.head_ns)
    return [("base", "base", base), ("head", "head", head)]


def _counters(benchmark: Benchmark) -> Iterator[Markup]:
    """A table of what moved; the rest in lines."""
    sources = list(_sources(benchmark))
    rows = [row for source in sources for row in _moved_rows(*source)]
    if rows:
        yield element("div", element("table", _counters_head(), element("tbody", *rows)), class_="wide")
    same = [
        (name, now) for _, before, after in sources for name, now in after.items() if before.get(name) == now
    ]
    yield from _line("Unchanged", dict(same))
    if not sources:
        yield from _line("Counted, compared with nothing", benchmark.counters)
    if benchmark.duet is None or not benchmark.duet.meters:
        yield from _line("Metered, compared with nothing", benchmark.meters)


def _counters_head() -> Markup:
    names = ("Counter", "Compared with", "Before", "Now", "Change")
    numbers = ("Before", "Now")
    cells = (element("th", name, scope="col", class_="num" if name in numbers else None) for name in names)
    return element("thead", element("tr", *cells))


def _line(title: str, found: Mapping[str, int] | None) -> Iterator[Markup]:
    if found:
        shown = ", ".join(f"{name} {number:,}" for name, number in sorted(found.items()))
        yield element("p", f"{title}: {shown}", class_="muted")


def _sources(benchmark: Benchmark) -> Iterator[tuple[str, dict[str, int], dict[str, int]]]:
    """What counters are compared with: its name, the counters there, and here."""
    duet, counters = benchmark.duet, benchmark.counters
    if counters is not None and benchmark.baseline is not None:
        yield "stored baseline", benchmark.baseline, counters
    if counters is not None and duet is not None and duet.base_counters is not None:
        yield "base", duet.base_counters, counters
    if duet is not None and duet.meters:
        base = {name: sides[0] for name, sides in duet.meters.items()}
        yield "base (meter)", base, {name: sides[1] for name, sides in duet.meters.items()}


def _moved_rows(source: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Markup]:
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for difference in (Difference(name, before.get(name), after.get(name)) for name in names):
        numbers = (_number(number, difference) for number in (difference.before, difference.after))
        yield element(
            "tr",
            element("th", difference.name, scope="row", class_="name"),
            element("td", source),
            *(element("td", number, class_="num") for number in numbers),
            element("td", change_of(difference)),
        )


def _number(value: int | None, difference: Difference) -> str:
    """A counter of events that never happened is absent: it reads 0 where the name says what it counts."""
    if value is None:
        return "absent" if difference.verdict is Verdict.CHANGED else "0"
    return f"{value:,}"

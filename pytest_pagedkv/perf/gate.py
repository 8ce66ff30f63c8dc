"""The gate itself, where the tests run: a benchmark whose counters are not right is a failed test."""

from collections.abc import Generator, Iterator, Mapping
from functools import partial

import pytest

from pagedkv.tracing import nvtx_range
from pytest_pagedkv.baselines import Entry, Judgement, Verdict, judge
from pytest_pagedkv.perf.recorder import counters_of
from pytest_pagedkv.perf.stored import departure, judge_stored
from pytest_pagedkv.perf.tested import BENCHMARK, TestedBenchmark
from pytest_pagedkv.report.duet import told_duet
from pytest_pagedkv.report.result import Measured
from pytest_pagedkv.report.run import PerfRun

__all__ = ["Gate"]


class Gate:
    """Hooks around each benchmark."""

    def __init__(self, run: PerfRun) -> None:
        self._run = run

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Judge the counters of a test that passed; the innermost wrapper, so that others see it fail."""
        old = item.stash[BENCHMARK]
        benchmark = item.stash[BENCHMARK] = TestedBenchmark(old.key, old.mark, old.toolchain)
        benchmark.departure = partial(departure, self._run, item, benchmark)
        try:
            with nvtx_range(benchmark.key):
                yield
        except Exception:
            self._tell_difference(item, benchmark)
            raise
        if getattr(item, "_excinfo", None):  # where pytest keeps what a unittest.TestCase did not raise
            return
        failures = [
            *self._judged_counters(item, benchmark),
            *self._judged_time(item, benchmark),
            *self._judged_stored(item, benchmark),
        ]
        if failures:
            benchmark.failures = tuple(verdict for verdict, _ in failures)
            pytest.fail("\n".join(message for _, message in failures), pytrace=False)

    def _tell_difference(self, item: pytest.Item, benchmark: TestedBenchmark) -> None:
        """Where a test is not content with a kernel, say besides what the stored one had."""
        if benchmark.toolchain:
            stored = self._run.kernels.of(benchmark.toolchain).get(benchmark.key)
            item.add_report_section("call", "kernel", "\n".join(judge(counters_of(item), stored).details))

    def _judged_counters(
        self, item: pytest.Item, benchmark: TestedBenchmark
    ) -> Iterator[tuple[Verdict, str]]:
        """Judge the counters; yields the verdict and a message if they make the test fail."""
        counters = counters_of(item)
        judgement = benchmark.judgement = self._judge(benchmark, counters)
        if judgement is None:
            return
        item.user_properties += [(f"pagedkv.{name}", value) for name, value in counters.items()]
        item.user_properties.append(("pagedkv.verdict", judgement.verdict.value))
        if self._fails(benchmark, judgement.verdict):
            yield judgement.verdict, self._message(benchmark, judgement)

    def _judged_time(self, item: pytest.Item, benchmark: TestedBenchmark) -> Iterator[tuple[Verdict, str]]:
        """The same for the time against another commit, which was judged before the tests ran."""
        duet = self._run.duets.get(benchmark.key)
        if duet is None or duet.judgement is None:
            return
        item.user_properties.append(("pagedkv.duet", duet.judgement.verdict.value))
        if duet.effect is not None:
            item.user_properties.append(("pagedkv.duet_effect", round(duet.effect, 4)))
        if duet.fails and not self._run.options.selftest:
            yield duet.judgement.verdict, told_duet(duet)

    def _judged_stored(self, item: pytest.Item, benchmark: TestedBenchmark) -> Iterator[tuple[Verdict, str]]:
        """And for the time against what is stored."""
        result = benchmark.stored = judge_stored(self._run, item, benchmark)
        if result is None:
            return
        item.user_properties.append(("pagedkv.stored", result.verdict.value))
        if result.fails:
            shown = self._run.timings[benchmark.mark.metric].shown_file(benchmark.key)
            yield result.verdict, f"{result.detail}\n(baseline: {shown})"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put what was measured on the report, which pytest-xdist carries to the controller."""
        report = yield
        benchmark = item.stash[BENCHMARK]
        measured = Measured(key=benchmark.key, mark=benchmark.mark)
        if report.when == "call":
            measured = Measured(
                key=benchmark.key,
                mark=benchmark.mark,
                toolchain=benchmark.toolchain,
                counters=counters_of(item),
                judgement=benchmark.judgement,
                timing=benchmark.timing,
                stored=benchmark.stored,
                meters=benchmark.meters,
                failures=benchmark.failures,
            )
        report.pagedkv_measured = measured.as_plain()  # type: ignore[attr-defined] # reports take any attribute
        return report

    def _judge(self, benchmark: TestedBenchmark, counters: Mapping[str, int]) -> Judgement | None:
        """The verdict; None for a benchmark that counts nothing and has no baseline."""
        if benchmark.toolchain:
            return self._judge_compiled(benchmark, counters)
        key, second, baseline = benchmark.key, self._run.second_pass, self._run.baselines.get(benchmark.key)
        if second is None:
            raise RuntimeError(f"{key} was counted once only: the second pass did not run")
        if not counters and baseline is None and not second.counters.get(key):
            return None
        if disagreement := second.disagreement(key, counters):
            return Judgement(Verdict.NONDETERMINISTIC, disagreement)
        options = self._run.options
        if not options.is_comparable:
            return Judgement(
                Verdict.INCOMPARABLE,
                (f"baselines belong to seed {options.project_seed}, this run has {options.seed}",),
            )
        if baseline is None and options.require_baseline and not options.stores(key):
            return Judgement(Verdict.MISSING, ("there is no baseline",))
        if baseline is None and not options.require_baseline:
            baseline = self._base_counters(key)
        return judge(counters, baseline)

    def _judge_compiled(self, benchmark: TestedBenchmark, counters: Mapping[str, int]) -> Judgement:
        """The verdict on a kernel, which depends on no seed, and which other compilers compile otherwise."""
        key, toolchain, options = benchmark.key, benchmark.toolchain, self._run.options
        baseline = self._run.kernels.of(toolchain).get(key)
        if baseline is None and not options.stores(key, toolchain):
            if others := self._run.kernels.elsewhere(toolchain, key):
                detail = f"stored for {', '.join(others)}, and compiled for {toolchain} here"
                return Judgement(Verdict.INCOMPARABLE, (detail,))
            if options.require_baseline:
                return Judgement(Verdict.MISSING, (f"there is no baseline for {toolchain}",))
        return judge(counters, baseline)

    def _base_counters(self, key: str) -> Entry | None:
        """What the other commit counted: the baseline of what has none stored, and needs none."""
        duet = self._run.duets.get(key)
        return None if duet is None or duet.counters is None else Entry(duet.counters)

    def _fails(self, benchmark: TestedBenchmark, verdict: Verdict) -> bool:
        options = self._run.options
        if verdict is Verdict.INCOMPARABLE:
            return options.require_baseline
        if verdict.is_difference:
            return not options.stores(benchmark.key, benchmark.toolchain)
        return verdict in (Verdict.NONDETERMINISTIC, Verdict.MISSING)

    def _message(self, benchmark: TestedBenchmark, judgement: Judgement) -> str:
        """The facts, one a line; what can be done about them is told once, in the section."""
        lines = [*judgement.details]
        if judgement.verdict.is_difference:
            shown = self._run.stored(benchmark.toolchain).shown_file(benchmark.key)
            lines.append(f"(baseline: {shown})")
        return "\n".join(lines)

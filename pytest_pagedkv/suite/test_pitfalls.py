"""The pitfalls, sick and cured side by side: what each recommended setting changes, in exact numbers."""

import pytest

from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios import SCENARIOS, Outcome, Setup, run
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="pitfalls")

_CURES = [
    pytest.param(pitfall, cure.setting, id=f"{pitfall.value}-{cure.setting}")
    for pitfall, scenario in SCENARIOS.items()
    for cure in scenario.cures
]
_SICK = [
    pytest.param(pitfall, name, id=f"{pitfall.value}-{name}")
    for pitfall, scenario in SCENARIOS.items()
    for name in scenario.sick
    if name not in {cure.of for cure in scenario.cures}
]


@pytest.mark.parametrize(("pitfall", "name"), _SICK)
def test_sick(pagedkv_benchmark: Benchmark, pagedkv_seed: int, pitfall: Pitfall, name: str) -> None:
    """The detector names the pitfall, and how bad it is stays as it was."""
    scenario = SCENARIOS[pitfall]
    outcome = _run(pagedkv_benchmark, scenario.sick[name], pagedkv_seed)

    assert outcome.finds(pitfall)
    pagedkv_benchmark.record(**{metric.name: metric.read(outcome) for metric in scenario.metrics})


@pytest.fixture(scope="module")
def sick_runs() -> dict[tuple[Pitfall, str], Outcome]:
    """Runs that several cures are compared with, once each."""
    return {}


@pytest.mark.parametrize(("pitfall", "setting"), _CURES)
def test_cured(
    pagedkv_benchmark: Benchmark,
    pagedkv_seed: int,
    sick_runs: dict[tuple[Pitfall, str], Outcome],
    pitfall: Pitfall,
    setting: str,
) -> None:
    """The detector speaks before, and after only if the cure is not said to help; numbers change alike."""
    scenario = SCENARIOS[pitfall]
    cure = scenario.cure(setting)
    key = pitfall, cure.of if cure.before is None else setting
    if key not in sick_runs:
        sick_runs[key] = run(scenario.before(cure), pagedkv_seed)
    before = sick_runs[key]
    assert before.finds(pitfall) or cure.before is not None
    after = _run(pagedkv_benchmark, cure.setup, pagedkv_seed)

    assert after.finds(pitfall) is not cure.silences
    for metric in scenario.metrics:
        was, now = metric.read(before), metric.read(after)
        pagedkv_benchmark.record(**{f"{metric.name}_before": was, f"{metric.name}_after": now})


def _run(benchmark: Benchmark, setup: Setup, seed: int) -> Outcome:
    """A run, once for the counters and once for the clock."""
    outcome: Outcome = benchmark(lambda: run(setup, seed), rounds=1, warmup=0)
    return outcome

"""How to fall into each pitfall and out of it again: seeded workloads and settings, simulated."""

from collections.abc import Mapping
from types import MappingProxyType

from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.batch_collapse import BATCH_COLLAPSE
from pagedkv.scenarios.cow_explosion import COW_EXPLOSION
from pagedkv.scenarios.fragmentation import FRAGMENTATION_SCENARIO
from pagedkv.scenarios.scenario import Cure, Metric, Outcome, Scenario, Setup, run

__all__ = ["SCENARIOS", "Cure", "Metric", "Outcome", "Scenario", "Setup", "run"]

SCENARIOS: Mapping[Pitfall, Scenario] = MappingProxyType(
    {scenario.pitfall: scenario for scenario in (FRAGMENTATION_SCENARIO, COW_EXPLOSION, BATCH_COLLAPSE)}
)
"""A scenario for each pitfall."""

"""How to fall into each pitfall and out of it again: seeded workloads and settings, simulated."""

from collections.abc import Mapping
from types import MappingProxyType

from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.batch_collapse import BATCH_COLLAPSE
from pagedkv.scenarios.cow_explosion import COW_EXPLOSION
from pagedkv.scenarios.fragmentation import FRAGMENTATION_SCENARIO
from pagedkv.scenarios.latency_spike import LATENCY_SPIKE
from pagedkv.scenarios.offload_thrash import OFFLOAD_THRASH
from pagedkv.scenarios.scenario import Cure, Metric, Outcome, Scenario, Setup, run

__all__ = ["SCENARIOS", "Cure", "Metric", "Outcome", "Scenario", "Setup", "run"]

_ALL = (FRAGMENTATION_SCENARIO, COW_EXPLOSION, BATCH_COLLAPSE, OFFLOAD_THRASH, LATENCY_SPIKE)

SCENARIOS: Mapping[Pitfall, Scenario] = MappingProxyType({scenario.pitfall: scenario for scenario in _ALL})
"""A scenario for each pitfall."""

"""How to fall into each pitfall and out of it again: seeded workloads and settings, simulated."""

from pagedkv.scenarios.scenario import Cure, Metric, Outcome, Scenario, Setup, run

__all__ = ["Cure", "Metric", "Outcome", "Scenario", "Setup", "run"]

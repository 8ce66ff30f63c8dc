"""Correct tiers pass."""

from pytest_pagedkv.conformance.offload.suite import OffloadConformance
from tests.conformance.offload.reference import PersistentTier, ReferenceTier


class TestReference(OffloadConformance):
    """Deletes what a killed process left."""

    adapter = ReferenceTier


class TestPersistent(OffloadConformance):
    """Takes over what a killed process left."""

    adapter = PersistentTier

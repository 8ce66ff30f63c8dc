"""Correct caches of other designs, for the faults that the reference's own design would mask."""

from pytest_pagedkv.conformance.cache.selftest.indexed import Entry
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["EagerCache", "TrustingCache"]


class TrustingCache(ReferenceCache):
    """Takes equal digests for equal prefixes, as most engines do."""

    def _holds(self, block: int, entry: Entry) -> bool:  # noqa: ARG002
        return True


class EagerCache(ReferenceCache):
    """Copies a partly filled last block when it forks."""

    copies_at_fork = True

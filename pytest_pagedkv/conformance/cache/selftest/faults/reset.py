"""Faults in forgetting every prefix."""

from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["RESET"]

RESET = Kind("reset")


@RESET.breaks("reset", like="transformers 5.23: reset keeps the prefix cache")
class ResetDoesNothing(ReferenceCache):
    """Prefixes are found as before."""

    def reset_prefix_cache(self) -> None:
        """Do nothing."""


@RESET.breaks("reset", like="vLLM #57727: one tier is left out")
class ResetSparesLiveBlocks(ReferenceCache):
    """Idle blocks are forgotten, and those of live sequences are found as before."""

    def reset_prefix_cache(self) -> None:
        while self._idle:
            self._blank.append(self._evict())


@RESET.breaks("reset")
class ResetSparesIdleBlocks(ReferenceCache):
    """Blocks of live sequences are forgotten, and idle ones are found as before."""

    def reset_prefix_cache(self) -> None:
        for block in self._num_owners:
            self._unregister(block)
        for sequence in self._sequences.values():
            sequence.is_cacheable = False


@RESET.breaks("reset")
class ResetSparesOpenBlocks(ReferenceCache):
    """A block that was partly filled at the reset enters the index when it is full."""

    def reset_prefix_cache(self) -> None:
        super().reset_prefix_cache()
        for sequence in self._sequences.values():
            sequence.is_cacheable = True


@RESET.breaks("no-alias")
class ResetFreesLiveBlocks(ReferenceCache):
    """Everything becomes blank, blocks of live sequences too."""

    def reset_prefix_cache(self) -> None:
        super().reset_prefix_cache()
        self._blank = list(range(self.num_blocks))


@RESET.breaks("conservation")
class ResetLosesIdleBlocks(ReferenceCache):
    """Idle blocks are forgotten, and do not become blank."""

    def reset_prefix_cache(self) -> None:
        self._idle.clear()
        super().reset_prefix_cache()

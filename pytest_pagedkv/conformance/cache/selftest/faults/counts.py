"""Faults in how many blocks are said to be free."""

from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["COUNTS"]

COUNTS = Kind("counts")


@COUNTS.breaks("conservation")
class EvictableNotFree(ReferenceCache):
    """The free count leaves out blocks that are only cached."""

    def num_free_blocks(self) -> int:
        return len(self._blank)


@COUNTS.breaks("conservation")
class EvictableFreeTwice(ReferenceCache):
    """The free count has blocks that are only cached in it twice."""

    def num_free_blocks(self) -> int:
        return super().num_free_blocks() + len(self._idle)


@COUNTS.breaks("conservation", like="TensorRT-LLM #11879: negative counts")
class SharedHeldTwice(ReferenceCache):
    """The free count takes a shared block for one held block for each owner."""

    def num_free_blocks(self) -> int:
        return max(0, self.num_blocks - sum(self._num_owners.values()))


@COUNTS.breaks("conservation")
class NeverFull(ReferenceCache):
    """The free count of a full pool is one."""

    def num_free_blocks(self) -> int:
        return max(1, super().num_free_blocks())

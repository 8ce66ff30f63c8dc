"""Faults in when a call finds no room, and in what it leaves behind then."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.selftest.faults.bases import EagerCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["FAILURE_PATH"]

FAILURE_PATH = Kind("failure path")


@FAILURE_PATH.breaks("atomic-failure")
class FailedAdmitLeaks(ReferenceCache):
    """A request takes what is there, finds that it is not enough, and gives nothing back."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks:
            self._take(self.num_free_blocks())
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAppendLeaks(ReferenceCache):
    """An append takes what is there, finds that it is not enough, and gives nothing back."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        try:
            return super().append(seq_id, token_ids)
        except OutOfBlocks:
            self._take(self.num_free_blocks())
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedForkLeaks(EagerCache):
    """The references that a fork takes stay when it has no block for its copy."""

    def fork(self, parent_id: int, child_id: int) -> Placement:
        try:
            return super().fork(parent_id, child_id)
        except OutOfBlocks:
            self._acquire(self._live(parent_id).table)
            raise


@FAILURE_PATH.breaks("atomic-failure", like="vLLM #8824")
class FailedSwapInLeaks(ReferenceCache):
    """A swap-in takes what is there, finds that it is not enough, and gives nothing back."""

    def swap_in(self, seq_id: int) -> Placement:
        try:
            return super().swap_in(seq_id)
        except OutOfBlocks:
            self._take(self.num_free_blocks())
            raise


@FAILURE_PATH.breaks("atomic-failure", like="SGLang #16067: a match not rolled back")
class FailedAdmitKeepsHits(ReferenceCache):
    """A request that does not fit stays an owner of what it hit."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks:
            self._acquire(self._match(namespace, token_ids))
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAdmitStaysLive(ReferenceCache):
    """A request that does not fit leaves a sequence without blocks."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks:
            self._sequences[seq_id] = SequenceState(namespace, [], [])
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedForkStaysLive(EagerCache):
    """A fork without room for its copy leaves a child without blocks."""

    def fork(self, parent_id: int, child_id: int) -> Placement:
        try:
            return super().fork(parent_id, child_id)
        except OutOfBlocks:
            self._sequences[child_id] = SequenceState("", [], [])
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedSwapInLosesSequence(ReferenceCache):
    """A sequence that does not fit when it is swapped in is gone."""

    def swap_in(self, seq_id: int) -> Placement:
        try:
            return super().swap_in(seq_id)
        except OutOfBlocks:
            del self._sequences[seq_id]
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAppendKeepsTokens(ReferenceCache):
    """An append that does not fit has made the sequence longer."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        try:
            return super().append(seq_id, token_ids)
        except OutOfBlocks:
            self._live(seq_id).tokens += token_ids
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAppendCopies(ReferenceCache):
    """An append that does not fit has replaced the shared block already, and nobody hears of the copy."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        try:
            return super().append(seq_id, token_ids)
        except OutOfBlocks:
            if self.num_free_blocks():
                self._open_tail(self._live(seq_id))
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAdmitEvicts(ReferenceCache):
    """A request evicts everything before it finds that this is not enough."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks:
            self._blank += [self._evict() for _ in range(len(self._idle))]
            raise


@FAILURE_PATH.breaks("atomic-failure")
class FailedAdmitTouches(ReferenceCache):
    """A request that does not fit has moved what it hits to the end of the line of evictions."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks:
            for block in reversed(self._match(namespace, token_ids)):
                if block in self._idle:
                    self._idle.move_to_end(block)
            raise


@FAILURE_PATH.breaks(
    "no-spurious-oom", like="vLLM #39734, #57104: nothing runs, although blocks could be evicted"
)
class EvictableDoesNotCount(ReferenceCache):
    """An append finds no room although evictable blocks would do."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        sequence = self._resident(seq_id)
        num_new = self._num_blocks_for(len(sequence.tokens) + len(token_ids)) - len(sequence.table)
        if num_new > len(self._blank):
            raise OutOfBlocks(f"{num_new} blocks are needed, {len(self._blank)} are blank")
        return super().append(seq_id, token_ids)


@FAILURE_PATH.breaks("no-spurious-oom", like="nano-vllm PR #211: the count is taken before the hits")
class RoomCountedWithoutHits(ReferenceCache):
    """A request needs free blocks for all of its prompt, also for what it shares with live sequences."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        self._require_new(seq_id)
        self._require_room(self._num_blocks_for(len(token_ids)))
        return super().admit(seq_id, token_ids, namespace)


@FAILURE_PATH.breaks("no-spurious-oom", like="TensorRT-LLM PR #12404: off by one at a boundary")
class AppendWantsSpareBlock(ReferenceCache):
    """An append needs a free block, even if its last one has room."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        self._resident(seq_id)
        self._require_room(1)
        return super().append(seq_id, token_ids)


@FAILURE_PATH.breaks("progress", like="vLLM #39734, #44560: running 0, waiting 1")
class WholePoolRefused(ReferenceCache):
    """A request that needs every block of the pool waits for ever."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        self._require_new(seq_id)
        if self._num_blocks_for(len(token_ids)) == self.num_blocks:
            raise OutOfBlocks("the request does not fit")
        return super().admit(seq_id, token_ids, namespace)


@FAILURE_PATH.breaks("documented-errors", like="vLLM PR #6849: can allocate, and does not")
class IdleHitsCountAsFree(ReferenceCache):
    """Blocks that a request hits are counted as free for it once more, and then there is none to hand out."""

    def _num_idle(self, hits: Sequence[int]) -> int:  # noqa: ARG002
        return 0


@FAILURE_PATH.breaks("documented-errors", like="nano-vllm")
class AssertionInsteadOfOutOfBlocks(ReferenceCache):
    """A request that does not fit fails an assertion."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        try:
            return super().admit(seq_id, token_ids, namespace)
        except OutOfBlocks as error:
            raise AssertionError from error


@FAILURE_PATH.breaks("documented-errors")
class IndexErrorInsteadOfOutOfBlocks(ReferenceCache):
    """An append that does not fit takes from an empty list."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        try:
            return super().append(seq_id, token_ids)
        except OutOfBlocks as error:
            raise IndexError("pop from an empty list") from error

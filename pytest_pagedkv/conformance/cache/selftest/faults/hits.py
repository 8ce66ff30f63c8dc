"""Faults in what is said, or not said, to be cached."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import Feature, Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.indexed import Entry
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["HITS"]

HITS = Kind("hits")

# What is not cached and called so may be there by chance, and then from before a reset.
_NO_RESET = ReferenceCache.features & ~Feature.RESET


@HITS.breaks("hit-soundness", like="nano-vllm #117")
class WholePromptHit(ReferenceCache):
    """A prompt that is cached to its last token leaves nothing to compute."""

    def _num_matchable(self, num_tokens: int) -> int:
        return num_tokens


@HITS.breaks("hit-soundness")
class HitRoundedUp(ReferenceCache):
    """What is left of a prompt behind its hits counts as cached where it is less than a block."""

    features = _NO_RESET

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:
        rest = len(token_ids) - 1 - len(hits) * self.block_size
        return super()._num_cached(hits, token_ids) + (rest if rest < self.block_size else 0)


@HITS.breaks("hit-soundness", like="TensorRT-LLM PR #12404")
class HitOneBlockTooMany(ReferenceCache):
    """A hit counts one block more than it has, if the prompt is long enough."""

    features = _NO_RESET

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:
        longest = (len(token_ids) - 1) // self.block_size
        return min(longest, len(hits) + bool(hits)) * self.block_size


@HITS.breaks("hit-soundness", like="vLLM #25780: hits on random data; #43736: retries counted as hits")
class HitForNothing(ReferenceCache):
    """Lookups count as hits."""

    features = _NO_RESET

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:  # noqa: ARG002
        return (len(token_ids) - 1) // self.block_size * self.block_size


@HITS.breaks("hit-soundness")
class HitBehindGap(ReferenceCache):
    """A lookup goes on behind a block that is not cached, as if the next one followed the last hit."""

    def _match(self, namespace: str, token_ids: Sequence[int]) -> list[int]:
        entries = self._entries_of(namespace, token_ids[: self._num_matchable(len(token_ids))])
        found = [self._find(entry) for entry in entries]
        return [block for block in found if block is not None]


@HITS.breaks("hit-completeness", like="vLLM PR #57336: a ratio of the wrong unit")
class HitCountedInBlocks(ReferenceCache):
    """Blocks are reported where tokens are asked for."""

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:  # noqa: ARG002
        return len(hits)


@HITS.breaks("hit-completeness", like="vLLM #53498: stored, never hits")
class NothingRegistered(ReferenceCache):
    """Blocks never enter the index."""

    def _enter(self, block: int, entry: Entry) -> None:
        """Forget it."""


@HITS.breaks("hit-completeness")
class ForgottenAtRelease(ReferenceCache):
    """A block leaves the index with its last owner, so that only live prefixes are found."""

    def _retire(self, block: int) -> None:
        self._unregister(block)
        super()._retire(block)


@HITS.breaks("hit-completeness")
class LastBlockNotRegistered(ReferenceCache):
    """The last full block is never registered, even where more tokens follow."""

    def _num_registrable(self, sequence: SequenceState) -> int:
        return super()._num_registrable(sequence) - 1


@HITS.breaks("hit-completeness")
class OutputNotRegistered(ReferenceCache):
    """What a sequence writes from its first append on is never found, though the cache says that it is."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        placement = super().append(seq_id, token_ids)
        self._live(seq_id).is_cacheable = False
        return placement


@HITS.breaks("hit-completeness", like="nano-vllm #219: a twin of the same step")
class TwinTakesEntryAlong(ReferenceCache):
    """Of two blocks with one prefix, the one that is written over takes the entry of the other along."""

    def _open_tail(self, sequence: SequenceState) -> tuple[tuple[int, int], ...]:
        entry = self._entries.get(sequence.table[-1])
        copies = super()._open_tail(sequence)
        if entry is not None and not copies and self._has_partial_tail(sequence):
            for twin in list(self._index.get(entry.digest, ())):
                self._unregister(twin)
        return copies

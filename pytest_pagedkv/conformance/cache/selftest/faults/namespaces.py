"""Faults in keeping namespaces apart."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.bases import TrustingCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.indexed import Entry
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["NAMESPACES"]

NAMESPACES = Kind("namespaces")


@NAMESPACES.breaks("hit-soundness")
class NamespaceIgnored(TrustingCache):
    """Equal tokens of two namespaces are one prefix."""

    def _root(self, namespace: str) -> int:  # noqa: ARG002
        return super()._root("")


@NAMESPACES.breaks("hit-soundness", like="vLLM #44701: LoRA name and cache salt collide")
class NamespaceJoinedToTokens(ReferenceCache):
    """A prefix is known by its namespace and its tokens in one string, with nothing between the two."""

    def _entries_of(self, namespace: str, token_ids: Sequence[int]) -> list[Entry]:
        stops = range(self.block_size, len(token_ids) + 1, self.block_size)
        keys = ["".join(map(str, (namespace, *token_ids[:stop]))) for stop in stops]
        return [Entry(self._shorten(key.encode()), key, ()) for key in keys]


@NAMESPACES.breaks("hit-soundness")
class NamespaceInFirstBlockOnly(TrustingCache):
    """The namespace goes into the digest of the first block, and no other is chained to that one."""

    def _entries_of(self, namespace: str, token_ids: Sequence[int]) -> list[Entry]:
        named, plain = super()._entries_of(namespace, token_ids), super()._entries_of("", token_ids)
        return named[:1] + plain[1:]


@NAMESPACES.breaks("hit-soundness")
class NamespaceCutShort(TrustingCache):
    """Only the first letter of a namespace counts."""

    def _root(self, namespace: str) -> int:
        return super()._root(namespace[:1])


@NAMESPACES.breaks("hit-soundness")
class NamespaceLostInSwap(ReferenceCache):
    """A sequence that was swapped out comes back without its namespace."""

    def swap_in(self, seq_id: int) -> Placement:
        self._live(seq_id).namespace = ""
        return super().swap_in(seq_id)

"""Faults in what stands for a prefix."""

from pytest_pagedkv.conformance.cache.selftest.faults.bases import TrustingCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind

__all__ = ["HASHING"]

HASHING = Kind("hashing")


@HASHING.breaks("hit-soundness", like="vLLM PR #5364: a map that points at a block of other content")
class DigestWithoutPrefix(TrustingCache):
    """The digest covers the tokens of the block, and not the prefix before it."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:  # noqa: ARG002
        return super()._digest(0, tokens)


@HASHING.breaks(
    "hit-soundness",
    like="nano-vllm, where a collision is found in seconds, and vLLM #12621, #15297",
)
class DigestTooShort(TrustingCache):
    """Three bits of digest, and tokens are not compared."""

    def _shorten(self, content: bytes) -> int:
        return super()._shorten(content) % 8


@HASHING.breaks("hit-soundness", like="SGLang #10637: key length against value length")
class DigestWithoutLastToken(TrustingCache):
    """The key of a block is one token shorter than its value."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        return super()._digest(behind, tokens[:-1])


@HASHING.breaks("hit-soundness")
class DigestWithoutOrder(TrustingCache):
    """The digest of a block is the same for its tokens in any order, as that of a sum is."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        return super()._digest(behind, tuple(sorted(tokens)))


@HASHING.breaks("hit-soundness")
class DigestsAdded(TrustingCache):
    """Digests of blocks are chained by adding them up, so that blocks may change places."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        return behind + super()._digest(0, tokens)


@HASHING.breaks("hit-soundness")
class DigestOfShortIds(TrustingCache):
    """Token ids are cut to 16 bits on their way into the digest."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        return super()._digest(behind, tuple(token & 0xFFFF for token in tokens))


@HASHING.breaks("hit-soundness", like="vLLM #44701: names that read alike when they are joined")
class DigestOfJoinedIds(TrustingCache):
    """Token ids are written one behind the other, so that 1, 11 reads as 11, 1 does."""

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        return super()._digest(behind, tuple(map(int, "".join(map(str, tokens)))))

"""What a scheduler is asked for: a prompt, and how much may be generated behind it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pagedkv.block_ids import Int32s
from pagedkv.block_manager import BlockManager, PagedPrefix, Placement, PrefixHit
from pagedkv.block_manager.token_ids import TokenIds, as_token_ids, require_block_ids, require_namespace
from pagedkv.config import CacheConfig
from pagedkv.errors import InvalidRequest
from pagedkv.sampling.params import SamplingParams

__all__ = ["NO_TOKENS", "KeyPrompt", "Prompt", "Request", "RequestId", "TokenPrompt"]

RequestId = int | str

NO_TOKENS = np.empty(0, np.int32)


class TokenPrompt:
    """A prompt whose tokens are known.

    Args:
        token_ids: the tokens, at least one.
        namespace: prefixes of different namespaces never match.

    Raises:
        InvalidRequest: there is no token, or one is no int that fits int32.
    """

    __slots__ = ("namespace", "token_ids")

    def __init__(self, token_ids: TokenIds, namespace: str = "") -> None:
        self.token_ids: Int32s = as_token_ids(token_ids)
        if not len(self.token_ids):
            raise InvalidRequest("the prompt is empty; it must have at least one token")
        require_namespace(namespace)
        self.namespace = namespace

    @property
    def num_tokens(self) -> int:
        """Its length."""
        return len(self.token_ids)

    @staticmethod
    def suits(config: CacheConfig) -> bool:
        """Whether a cache of these settings takes it."""
        return config.prefix_keys == "tokens" or not config.prefix_caching

    def tokens(self, output_ids: Int32s) -> Int32s:
        """The prompt and what was generated behind it. Shape `[num_tokens + len(output_ids)]` (int32)."""
        return np.concatenate((self.token_ids, output_ids)) if len(output_ids) else self.token_ids

    def hit(self, cache: BlockManager, seq_id: int, output_ids: Int32s) -> PrefixHit:  # noqa: ARG002
        """What of it, and of what was generated behind it, the cache holds."""
        return cache.prefix_hit(self.tokens(output_ids), self.namespace)

    def paged(
        self,
        cache: BlockManager,
        seq_id: int,  # noqa: ARG002 - the tokens say all
        output_ids: Int32s,
        max_pages: int | None,
    ) -> PagedPrefix:
        """What of it, and of what was generated behind it, is on the device or in so many pages below it."""
        return cache.paged_prefix(self.tokens(output_ids), self.namespace, max_pages=max_pages)

    def admit(self, cache: BlockManager, seq_id: int, output_ids: Int32s, stop: int) -> Placement:
        """Make its first `stop` tokens, outputs included, a sequence of the cache."""
        return cache.admit(seq_id, self.tokens(output_ids)[:stop], self.namespace)

    def append(
        self, cache: BlockManager, seq_id: int, output_ids: Int32s, start: int, stop: int
    ) -> Placement:
        """Add its tokens `start` .. `stop` - 1, outputs included, to a sequence of the cache."""
        return cache.append(seq_id, self.tokens(output_ids)[start:stop])

    def name_outputs(self, cache: BlockManager, seq_id: int, num_tokens: int) -> None:
        """Nothing: the cache knows blocks by their tokens."""


class KeyPrompt:
    """A prompt of which only the prefix-chained ids of its blocks are known, as traces have them.

    Args:
        num_tokens: its length, at least 1.
        block_ids: ids of its blocks in order, of the cache's block size; those that are missing, and those
            behind the last full block, are never shared.

    Raises:
        InvalidRequest: there is no token, or the ids are not hashable, None, or not distinct.
    """

    __slots__ = ("block_ids", "num_tokens")

    def __init__(self, num_tokens: int, block_ids: Sequence[Hashable] = ()) -> None:
        if type(num_tokens) is not int or num_tokens < 1:
            raise InvalidRequest(f"the prompt has {num_tokens!r} tokens; it must have at least one")
        require_block_ids(block_ids)
        self.num_tokens = num_tokens
        self.block_ids = block_ids

    @staticmethod
    def suits(config: CacheConfig) -> bool:
        """Whether a cache of these settings takes it."""
        return config.prefix_keys == "ids"

    def tokens(self, output_ids: Int32s) -> Int32s:  # noqa: ARG002 - nobody knows the prompt's
        """Nothing: they are not known."""
        return NO_TOKENS

    def hit(self, cache: BlockManager, seq_id: int, output_ids: Int32s) -> PrefixHit:
        """What of it, and of what was generated behind it, the cache holds."""
        length = self.num_tokens + len(output_ids)
        return cache.prefix_hit_keys(self._ids(cache, seq_id, length), num_tokens=length)

    def paged(
        self, cache: BlockManager, seq_id: int, output_ids: Int32s, max_pages: int | None
    ) -> PagedPrefix:
        """What of it, and of what was generated behind it, is on the device or in so many pages below it."""
        length = self.num_tokens + len(output_ids)
        ids = self._ids(cache, seq_id, length)
        return cache.paged_prefix_keys(ids, num_tokens=length, max_pages=max_pages)

    def admit(self, cache: BlockManager, seq_id: int, output_ids: Int32s, stop: int) -> Placement:  # noqa: ARG002
        """Make its first `stop` tokens, outputs included, a sequence of the cache."""
        return cache.admit_keys(seq_id, self._ids(cache, seq_id, stop), num_prompt_tokens=stop)

    def append(
        self,
        cache: BlockManager,
        seq_id: int,
        output_ids: Int32s,  # noqa: ARG002 - likewise
        start: int,
        stop: int,
    ) -> Placement:
        """Add its tokens `start` .. `stop` - 1, outputs included, to a sequence of the cache."""
        ids = self._ids(cache, seq_id, stop)[start // cache.config.block_size :]
        return cache.append_keys(seq_id, ids, num_tokens=stop - start)

    def name_outputs(self, cache: BlockManager, seq_id: int, num_tokens: int) -> None:
        """Let the blocks of a sequence be found again by itself, if there are pages to keep them in.

        Args:
            cache: the cache.
            seq_id: the sequence.
            num_tokens: its computed tokens.
        """
        if cache.tiers is not None:
            cache.register_keys(seq_id, self._ids(cache, seq_id, num_tokens))

    def _ids(self, cache: BlockManager, seq_id: int, num_tokens: int) -> Sequence[Hashable]:
        """Ids of the full blocks of the first tokens.

        A trace has none for generated tokens, and none for some prompts. Where pages can be kept, these
        blocks get ids that are the sequence's own, by which it finds them when it comes back.
        """
        size = cache.config.block_size
        ids, num_full = self.block_ids[: min(num_tokens, self.num_tokens) // size], num_tokens // size
        if len(ids) == num_full or cache.tiers is None:
            return ids
        return [*ids, *((seq_id, place) for place in range(len(ids), num_full))]


Prompt = TokenPrompt | KeyPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a scheduler.

    Args:
        request_id: chosen by the caller.
        prompt: the prompt.
        max_tokens: tokens to generate at most, for each of its sequences.
        num_sequences: samples or beams that run at once.
        priority: the smaller, the more urgent; for the policy that asks for it.
        stop_token_ids: tokens that end a sequence.
        arrival_ns: when it came; None for now.
        sampling: how its tokens are chosen; schedulers do not look at it.

    Raises:
        InvalidRequest: a number that is not at least 1, or a priority or a stop token that is no int.
    """

    request_id: RequestId
    prompt: Prompt
    max_tokens: int
    num_sequences: int = 1
    priority: int = 0
    stop_token_ids: Sequence[int] = field(default=())
    arrival_ns: int | None = None
    sampling: SamplingParams | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "num_sequences"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidRequest(f"{name} is {value!r}; it must be an int of at least 1")
        if type(self.priority) is not int:
            raise InvalidRequest(f"priority is {self.priority!r}; it must be an int")
        as_token_ids(self.stop_token_ids)

    def num_blocks(self, block_size: int) -> int:
        """Blocks that it can come to hold at once: its sequences share the full blocks of the prompt only.

        The KV of the last token of a sequence is never needed, and those of one token never part.
        """
        if self.max_tokens == 1:
            return -(-self.prompt.num_tokens // block_size)
        shared = self.prompt.num_tokens // block_size if self.num_sequences > 1 else 0
        longest = -(-(self.prompt.num_tokens + self.max_tokens - 1) // block_size)
        return shared + self.num_sequences * (longest - shared)

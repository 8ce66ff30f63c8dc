"""The interface between a paged KV cache and the suite that tests it.

An adapter translates: the suite's words into the engine's, the engine's errors into `OutOfBlocks`, `KeyError`
and `ValueError`. It holds no logic of its own, else the suite would test the adapter.
"""

import abc
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["Adapter", "Feature", "KVCacheAdapter", "KnownFailure", "OutOfBlocks", "Placement"]


class Feature(enum.Flag):
    """What the cache under test can do. A missing one skips its tests, naming the feature."""

    NONE = 0
    PREFIX_CACHE = enum.auto()
    """`admit` reuses blocks whose tokens, from the start of the sequence, are equal."""
    FORK = enum.auto()
    """`fork` starts a sequence that shares the blocks of another."""
    TRUNCATE = enum.auto()
    """`truncate` cuts a sequence back."""
    SWAP = enum.auto()
    """`swap_out` frees a sequence's blocks and keeps its KV elsewhere; `swap_in` brings it back."""
    NAMESPACE = enum.auto()
    """Equal tokens of different namespaces (adapters, tenants, cache salts) never match."""
    REF_COUNTS = enum.auto()
    """`ref_counts` shows how many sequences hold a block."""
    RESET = enum.auto()
    """`reset_prefix_cache` forgets every cached prefix."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a call's tokens went.

    Attributes:
        num_cached_tokens: leading tokens whose KV is already in the sequence's blocks.
        copies: (source block, destination block), to run in order before the new tokens are written.
    """

    num_cached_tokens: int = 0
    copies: Sequence[tuple[int, int]] = ()


class OutOfBlocks(Exception):
    """There is no room: the only exception that admit, append, fork and swap_in may raise for that."""


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A defect of an engine that its adapter's author knows about.

    The suite no longer reports it, searches on past it, and runs `program` to see that it is still there: a
    known failure that passes is a failure, so that the note goes when the defect does.

    Attributes:
        invariant: name of the invariant that fails, such as "come-home".
        reason: what happens, in a sentence, with a link or a version.
        program: calls that show it, such as `(("admit", 0, (1, 2, 3)), ("release", 0))`.
        operation: the call that it shows in, such as "release"; "" for any.
        num_blocks: size of the pool that the program runs on.
        block_size: tokens in a block of that pool.
    """

    invariant: str
    reason: str
    program: Sequence[tuple[Any, ...]]
    operation: str = ""
    num_blocks: int = 4
    block_size: int = 2


class Adapter(abc.ABC):  # noqa: B024 - what it has to answer, its kind says
    """What every kind of adapter has.

    Attributes:
        known_failures: defects of the engine that are known, so that the suite goes on past them.
    """

    known_failures: ClassVar[Sequence[KnownFailure]] = ()

    @classmethod
    def unavailable(cls) -> str:
        """Why this adapter cannot run here, such as "vllm is not installed"; "" if it can."""
        return ""


class KVCacheAdapter(Adapter):
    """A paged KV cache: sequences of tokens, each with a table of blocks.

    The suite makes one for every program that it runs. It sends prompts and appends of at least one token,
    and truncates to at least one; it chooses sequence ids, and uses an id again after it was released. It
    also sends misuse: an unknown id has to be answered with KeyError, a live id for a new sequence with
    ValueError, both with the state as it was.

    Args:
        num_blocks: size of the pool.
        block_size: tokens in a block.

    Attributes:
        features: what the cache can do; the suite asks for nothing else.
        block_sizes: block sizes that the engine takes; the suite draws from them.
        max_overhead_blocks: blocks per sequence beyond ceil(n / block_size) that the engine holds on purpose.
        caches_output: tokens that were appended, and not only prompts, are found by later prompts.
        usable_blocks: blocks less those that the engine reserves (a null block, say); set it after
            `super().__init__`.
    """

    features: ClassVar[Feature] = Feature.NONE
    block_sizes: ClassVar[Sequence[int]] = (1, 2, 3, 4)
    max_overhead_blocks: ClassVar[int] = 0
    caches_output: ClassVar[bool] = True

    usable_blocks: int

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.usable_blocks = num_blocks

    @abc.abstractmethod
    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Give a new sequence its blocks, reusing those that hold its leading tokens.

        Fewer tokens than the prompt has are cached, so that one is left to compute.

        Raises:
            OutOfBlocks: it does not fit now.
            ValueError: the id is live.
        """

    @abc.abstractmethod
    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Add tokens behind a sequence. A copy that this write needs is reported here.

        Raises:
            OutOfBlocks: they do not fit now.
            KeyError: the sequence is not live.
        """

    @abc.abstractmethod
    def release(self, seq_id: int) -> None:
        """End a sequence.

        Raises:
            KeyError: it is not live.
        """

    @abc.abstractmethod
    def block_table(self, seq_id: int) -> Sequence[int]:
        """The sequence's blocks, in order; none while it is swapped out.

        Raises:
            KeyError: it is not live.
        """

    @abc.abstractmethod
    def num_free_blocks(self) -> int:
        """Blocks that an admit could still obtain, evictable cached ones included."""

    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Start a sequence with the tokens of another (`Feature.FORK`). A copy made now is reported now.

        Raises:
            OutOfBlocks: it needs a block, and there is none.
            KeyError: the parent is not live.
            ValueError: the child's id is live.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fork")

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        """Cut a sequence back to its first tokens (`Feature.TRUNCATE`).

        A block that is cut keeps its content until it is written again: a hit on it before that is sound.

        Raises:
            KeyError: the sequence is not live.
        """
        raise NotImplementedError(f"{type(self).__name__} has no truncate")

    def ref_counts(self) -> Mapping[int, int]:
        """How many live tables hold each block (`Feature.REF_COUNTS`); idle blocks are absent or 0."""
        raise NotImplementedError(f"{type(self).__name__} has no ref_counts")

    def swap_out(self, seq_id: int) -> None:
        """Keep a sequence's KV elsewhere and give up its blocks (`Feature.SWAP`); its table is empty then.

        Until it is swapped in or released, nothing else is asked of it.

        Raises:
            KeyError: the sequence is not live.
        """
        raise NotImplementedError(f"{type(self).__name__} has no swap_out")

    def swap_in(self, seq_id: int) -> Placement:
        """Bring a swapped sequence back (`Feature.SWAP`). All of its KV is in its blocks when this returns.

        Raises:
            OutOfBlocks: it does not fit now; it stays swapped out.
            KeyError: the sequence is not live.
        """
        raise NotImplementedError(f"{type(self).__name__} has no swap_in")

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix (`Feature.RESET`). Sequences go on."""
        raise NotImplementedError(f"{type(self).__name__} has no reset_prefix_cache")

    def weaken_hash(self, num_bits: int) -> None:
        """Make the engine's prefix hash collide: keep `num_bits` of it. Called before anything else.

        Leave it out where the engine compares tokens, or where its hash cannot be reached.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot weaken its hash")

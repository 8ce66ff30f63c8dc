"""Random programs: a Hypothesis state machine over a checked cache, biased towards where caches break."""

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.checked import CheckedCache
from pytest_pagedkv.conformance.cache.known import is_known
from pytest_pagedkv.conformance.cache.making import make_adapter
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["NAMESPACES", "CacheMachine", "GaveUp", "bits", "having", "picks", "tokens_of"]

_MAX_LIVE = 6
_ALPHABETS = ((0, 1), (1, 11), (0, 65536), (12, 1 << 30))  # for caches that cut ids short, or join them
NAMESPACES = ("", "a", "0", "1", "01")  # some look like tokens, and one begins as another does

picks = st.integers(0, 7)  # which sequence, the newest first
bits = st.integers(0, 255)  # tokens from an alphabet of two, so that prefixes meet
blocks = st.integers(0, 3)
edges = st.sampled_from([0, 1, -1, 2])  # where a length lies with respect to a block boundary


class GaveUp(BaseException):
    """A call hung; not an `Exception`, because Hypothesis would make the same call again."""

    def __init__(self, violation: Hung) -> None:
        super().__init__()
        self.violation = violation


def having(feature: Feature, *, live: bool = False, room: bool = False) -> Callable[[Any], Any]:
    """A rule that needs a feature, and may need a sequence on the device or room for one more."""

    def is_met(machine: "CacheMachine") -> bool:
        return (
            feature in machine.adapter.features
            and not machine.is_over
            and (not live or bool(machine.on_device))
            and (not room or len(machine.tokens) < _MAX_LIVE)
        )

    return precondition(is_met)


class CacheMachine(RuleBasedStateMachine):
    """Programs of every call that the cache has, on pools of a few blocks.

    Many rules are a small scenario rather than a call: the ways in which caches break take several calls to
    come about, and a search by single calls would meet them too rarely.

    Attributes:
        adapter: the class under test.
        reached: counts of what was done.
        watch: the time limit for calls.
        hash_bits: what is left of the engine's hash; None leaves it alone.
    """

    adapter: ClassVar[type[KVCacheAdapter]]
    reached: ClassVar[Reached]
    watch: ClassVar[Watch]
    hash_bits: ClassVar[int | None] = None

    cache: CheckedCache

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False  # a defect came up: what follows says nothing
        self.block_size = 1
        self.alphabet = _ALPHABETS[0]
        self.tokens: dict[int, list[int]] = {}  # of the live sequences, newest last
        self.namespaces: dict[int, str] = {}
        self.on_device: list[int] = []
        self.swapped: list[int] = []
        self.history: list[tuple[str, list[int]]] = [("", [0])]
        self.spare_ids: list[int] = []
        self.forked: set[int] = set()
        self.appended: set[int] = set()
        self.ever_held: set[int] = set()

    @initialize(
        num_blocks=st.integers(2, 14), block_size=st.integers(0, 11), alphabet=st.sampled_from(_ALPHABETS)
    )
    def start(self, num_blocks: int, block_size: int, alphabet: tuple[int, int]) -> None:
        """A pool of a few blocks."""
        self.alphabet = alphabet
        sizes = self.adapter.block_sizes
        self.block_size = sizes[block_size % len(sizes)]
        try:
            made = make_adapter(self.adapter, num_blocks, self.block_size, self.watch)
        except Hung as hung:
            raise GaveUp(hung) from None
        self.cache = CheckedCache(made, watch=self.watch)
        self.reached.programs += 1
        if self.hash_bits is not None:
            self.call("weaken_hash", self.hash_bits)

    # ---- one call each

    @having(Feature.NONE, room=True)
    @rule(num_blocks=blocks, edge=edges, pattern=bits, reuse=st.booleans())
    def admit(self, num_blocks: int, edge: int, pattern: int, reuse: bool) -> None:
        """Admit any prompt."""
        self.do_admit(self.made(num_blocks, edge, pattern), reuse=reuse)

    @having(Feature.NONE, room=True)
    @rule(
        which=picks, num_blocks=blocks, edge=edges, tail=st.integers(0, 5), pattern=bits, reuse=st.booleans()
    )
    def admit_relative(
        self, which: int, num_blocks: int, edge: int, tail: int, pattern: int, reuse: bool
    ) -> None:
        """Admit a prompt that begins as an earlier sequence does, up to near a block boundary."""
        namespace, tokens = self.history[-1 - which % len(self.history)]
        keep = tokens if num_blocks == 0 else tokens[: self.length(num_blocks, edge)]
        self.do_admit([*keep, *tokens_of(tail, pattern)], namespace, reuse)

    @having(Feature.NONE, live=True)
    @rule(which=picks, num_blocks=st.integers(0, 2), edge=edges, pattern=bits)
    def append(self, which: int, num_blocks: int, edge: int, pattern: int) -> None:
        """Append."""
        self.do_append(self.pick(which), self.made(num_blocks, edge, pattern))

    @having(Feature.FORK, live=True, room=True)
    @rule(which=picks, reuse=st.booleans())
    def fork(self, which: int, reuse: bool) -> None:
        """Fork."""
        self.do_fork(self.pick(which), reuse)

    @having(Feature.TRUNCATE, live=True)
    @rule(which=picks, num_blocks=blocks, edge=edges)
    def truncate(self, which: int, num_blocks: int, edge: int) -> None:
        """Truncate."""
        self.do_truncate(self.pick(which), self.length(num_blocks, edge))

    @having(Feature.NONE, live=True)
    @rule(which=picks, more=st.integers(0, 3))
    def release(self, which: int, more: int) -> None:
        """Release one or several."""
        self.do_release(self.pick(which))
        for seq_id in self.on_device[:more]:
            self.do_release(seq_id)

    @having(Feature.SWAP, live=True)
    @rule(which=picks)
    def swap_out(self, which: int) -> None:
        """Swap out."""
        self.do_swap_out(self.pick(which))

    @having(Feature.SWAP)
    @precondition(lambda self: self.swapped)
    @rule(which=picks, leave=st.booleans())
    def swap_in(self, which: int, leave: bool) -> None:
        """Swap in, or release a sequence that is swapped out."""
        seq_id = self.swapped[-1 - which % len(self.swapped)]
        if leave:
            self.do_release(seq_id)
        else:
            self.do_swap_in(seq_id)

    @having(Feature.RESET, room=True)
    @rule(which=picks, tail=st.integers(0, 3))
    def reset(self, which: int, tail: int) -> None:
        """Forget the cached prefixes, and ask for one of them."""
        if self.tokens:
            self.count("reset with live sequences")
        self.call("reset_prefix_cache")
        namespace, tokens = self.history[-1 - which % len(self.history)]
        self.do_admit([*tokens, *tokens_of(tail, 0)], namespace)

    # ---- scenarios

    @having(Feature.PREFIX_CACHE, room=True)
    @rule(num_blocks=blocks, edge=edges, pattern=bits)
    def admit_twins(self, num_blocks: int, edge: int, pattern: int) -> None:
        """Two requests with the same prompt, in the same step."""
        prompt = self.made(num_blocks, edge, pattern)
        if self.do_admit(prompt) is not None and self.do_admit(prompt) is not None:
            self.count("twins back to back")

    @having(Feature.NONE, room=True)
    @rule(num_blocks=blocks, edge=edges, pattern=bits)
    def admit_and_cancel(self, num_blocks: int, edge: int, pattern: int) -> None:
        """A request that is cancelled before its first token."""
        seq_id = self.do_admit(self.made(num_blocks, edge, pattern))
        if seq_id is not None:
            self.count("cancelled between admit and append")
            self.do_release(seq_id)

    @having(Feature.NONE, live=True)
    @rule(which=picks, tail=st.integers(0, 3), pattern=bits)
    def come_back(self, which: int, tail: int, pattern: int) -> None:
        """The next turn of a conversation: the whole sequence is the prompt."""
        seq_id = self.pick(which)
        namespace, tokens = self.namespaces[seq_id], self.tokens[seq_id]
        self.do_release(seq_id)
        self.do_admit([*tokens, *tokens_of(tail, pattern)], namespace)

    @having(Feature.NONE, room=True)
    @rule(leave=st.integers(0, 2), pattern=bits, stay=st.booleans())
    def fill(self, leave: int, pattern: int, stay: bool) -> None:
        """A request that takes all free blocks but a few, and may go again."""
        if self.is_over:
            return
        num_blocks = self.cache.num_free_blocks() - leave - self.cache.adapter.max_overhead_blocks
        if num_blocks > 0:
            seq_id = self.do_admit(tokens_of(num_blocks * self.block_size, pattern))
            if seq_id is not None and not stay:
                self.do_release(seq_id)

    @having(Feature.NONE, room=True)
    @rule(edge=st.integers(1, 3), pattern=bits)
    def admit_too_much(self, edge: int, pattern: int) -> None:
        """A request larger than the pool."""
        usable = self.cache.adapter.usable_blocks
        if self.do_admit(tokens_of(usable * self.block_size + edge, pattern)) is None:
            self.count("larger than the pool")

    @having(Feature.FORK, live=True, room=True)
    @rule(which=picks, first=bits, second=bits, child_first=st.booleans())
    def diverge(self, which: int, first: int, second: int, child_first: bool) -> None:
        """Fork, then both write into what they share."""
        parent = self.pick(which)
        is_inside = len(self.tokens[parent]) % self.block_size != 0
        child = self.do_fork(parent)
        if child is not None:
            order = (child, parent) if child_first else (parent, child)
            done = [
                self.do_append(i, tokens_of(1, bits)) for i, bits in zip(order, (first, second), strict=True)
            ]
            if is_inside and all(done):
                self.count("parent and child append inside a shared block")

    @having(Feature.TRUNCATE, live=True)
    @rule(which=picks, back=st.integers(1, 6), pattern=bits, more=st.integers(0, 4))
    def roll_back(self, which: int, back: int, pattern: int, more: int) -> None:
        """Rejected drafts: cut, then write something else."""
        seq_id = self.pick(which)
        length = len(self.tokens[seq_id])
        keep = max(1, length - back)
        replaced = [1 - token for token in self.tokens[seq_id][keep : keep + 1]] or [0]
        self.do_truncate(seq_id, keep)
        crosses = -(-keep // self.block_size) < -(-length // self.block_size)
        if self.do_append(seq_id, [*replaced, *tokens_of(more, pattern)]) and crosses:
            self.count("cut across a boundary, then other tokens")

    @having(Feature.NAMESPACE | Feature.PREFIX_CACHE, room=True)
    @rule(which=picks, number=st.integers(0, len(NAMESPACES) - 1))
    def admit_elsewhere(self, which: int, number: int) -> None:
        """The tokens of an earlier sequence, in any namespace."""
        namespace, tokens = self.history[-1 - which % len(self.history)]
        if self.do_admit(tokens, NAMESPACES[number]) is not None and namespace != NAMESPACES[number]:
            self.count("equal tokens in two namespaces")

    @having(Feature.NONE)
    @rule(
        which=picks,
        kind=st.sampled_from(
            ["release", "append", "truncate", "fork from", "admit", "fork onto", "swap out", "swap in"]
        ),
    )
    def misuse(self, which: int, kind: str) -> None:
        """A call with an id that is live, or has ended, or never was, where it must be otherwise."""
        unknown = self.new_id(reuse=which % 2 == 1)
        name, features, arguments = {
            "release": ("release", Feature.NONE, (unknown,)),
            "append": ("append", Feature.NONE, (unknown, [0])),
            "truncate": ("truncate", Feature.TRUNCATE, (unknown, 1)),
            "fork from": ("fork", Feature.FORK, (unknown, unknown + 1)),
            "swap out": ("swap_out", Feature.SWAP, (unknown,)),
            "swap in": ("swap_in", Feature.SWAP, (unknown,)),
            "admit": ("admit", Feature.NONE, (self.pick(which) if self.on_device else None, [0])),
            "fork onto": (
                "fork",
                Feature.FORK,
                (self.pick(which), self.pick(0)) if self.on_device else (None,),
            ),
        }[kind]
        if features in self.adapter.features and arguments[0] is not None and not self.is_known_misuse(name):
            self.count(f"misuse: {kind}")
            self.call(name, *arguments)

    @precondition(lambda self: self.is_over)
    @rule()
    def rest(self) -> None:
        """A known defect came up: what would follow says nothing."""

    # ---- what rules are made of

    def do_admit(self, tokens: list[int], namespace: str = "", reuse: bool = False) -> int | None:
        """Admit a prompt; gives the id, or None if it was refused."""
        tokens = tokens or [0]
        if Feature.NAMESPACE not in self.adapter.features:
            namespace = ""
        seq_id = self.new_id(reuse)
        was_used = seq_id in self.spare_ids
        placement = self.call("admit", seq_id, tokens, namespace)
        if placement is None:
            return None
        self.began(seq_id, namespace, tokens)
        self.count_admitted(seq_id, len(tokens), placement.num_cached_tokens, was_used)
        return seq_id

    def do_append(self, seq_id: int, tokens: list[int]) -> bool:
        """Append; tells whether there was room."""
        placement = self.call("append", seq_id, tokens)
        if placement is not None:
            self.tokens[seq_id] += tokens
            self.appended.add(seq_id)
            if placement.copies:
                self.count("copy on write")
        return placement is not None

    def do_fork(self, parent: int, reuse: bool = False) -> int | None:
        """Fork; gives the child's id, or None if it was refused."""
        if len(self.tokens) >= _MAX_LIVE:
            return None
        child = self.new_id(reuse)
        if self.call("fork", parent, child) is None:
            return None
        self.began(child, self.namespaces[parent], list(self.tokens[parent]))
        if parent in self.forked:
            self.count("fork of a fork")
        if len(self.tokens[parent]) % self.block_size:
            self.count("fork inside a block")
        self.forked.add(child)
        return child

    def do_truncate(self, seq_id: int, num_tokens: int) -> None:
        """Cut, if there is something to cut."""
        length = len(self.tokens[seq_id])
        if num_tokens <= length and self.call("truncate", seq_id, num_tokens) is not None:
            del self.tokens[seq_id][num_tokens:]
            if -(-num_tokens // self.block_size) < -(-length // self.block_size):
                self.count("cut across a boundary")

    def do_release(self, seq_id: int) -> None:
        """Release, and remember what it was."""
        if self.call("release", seq_id) is not None:
            self.history = [*self.history[-7:], (self.namespaces.pop(seq_id), self.tokens.pop(seq_id))]
            (self.on_device if seq_id in self.on_device else self.swapped).remove(seq_id)
            self.forked.discard(seq_id)
            self.appended.discard(seq_id)
            self.spare_ids.append(seq_id)

    def do_swap_out(self, seq_id: int) -> None:
        """Swap out."""
        if self.call("swap_out", seq_id) is not None:
            self.on_device.remove(seq_id)
            self.swapped.append(seq_id)

    def do_swap_in(self, seq_id: int) -> None:
        """Swap in, if there is room."""
        if seq_id in self.swapped and self.call("swap_in", seq_id) is not None:
            self.swapped.remove(seq_id)
            self.on_device.append(seq_id)

    def began(self, seq_id: int, namespace: str, tokens: list[int]) -> None:
        """Note a new sequence."""
        self.tokens[seq_id], self.namespaces[seq_id] = list(tokens), namespace
        self.on_device.append(seq_id)
        self.history = [*self.history[-7:], (namespace, list(tokens))]
        if seq_id in self.spare_ids:
            self.spare_ids.remove(seq_id)

    def call(self, name: str, *arguments: Any) -> Placement | None:
        """Make a call; None if it is refused, or if the program is over."""
        if self.is_over:
            return None
        self.reached.operations += 1
        self.reached.rules[name] += 1
        if name in ("admit", "append"):
            seq_id, tokens, *namespace = arguments
            arguments = (seq_id, [self.alphabet[token] for token in tokens], *namespace)
        try:
            answer: Placement | None = getattr(self.cache, name)(*arguments)
        except OutOfBlocks:
            self.count(f"out of blocks in {name}")
        except InvariantViolation as violation:
            self.fail(violation)
        except (KeyError, ValueError):
            pass  # misuse, answered as it has to be
        else:
            return answer or Placement()
        return None

    def fail(self, violation: InvariantViolation) -> None:
        """End the program, and raise unless the defect is known."""
        self.is_over = True
        if isinstance(violation, Hung):
            raise GaveUp(violation)
        if not is_known(self.adapter, violation):
            raise violation
        self.count(f"known: {violation.invariant}")

    def is_known_misuse(self, name: str) -> bool:
        """The adapter says that the engine does not refuse this."""
        return any(
            known.invariant == "documented-errors" and known.operation == name
            for known in self.adapter.known_failures
        )

    # ---- choices and counts

    def pick(self, number: int) -> int:
        """A sequence on the device; 0 is the newest."""
        return self.on_device[-1 - number % len(self.on_device)]

    def new_id(self, reuse: bool) -> int:
        """An id that is not live: the last one released, or one that never was."""
        if reuse and self.spare_ids:
            return self.spare_ids[-1]
        return next(i for i in range(100_000) if i not in self.tokens and i not in self.spare_ids)

    def length(self, num_blocks: int, edge: int) -> int:
        """A length on, one before or one or two behind a block boundary."""
        return max(1, num_blocks * self.block_size + edge)

    def made(self, num_blocks: int, edge: int, pattern: int) -> list[int]:
        """Tokens of such a length."""
        return tokens_of(self.length(num_blocks, edge), pattern)

    def count(self, scenario: str) -> None:
        """Note that a situation came about."""
        self.reached.scenarios[scenario] += 1

    def count_admitted(self, seq_id: int, num_tokens: int, cached: int, was_used: bool) -> None:
        """Note what an admission was like."""
        place = {0: "on", 1: "one after", self.block_size - 1: "one before"}.get(num_tokens % self.block_size)
        if place and self.block_size > 2:
            self.count(f"prompt ends {place} a block boundary")
        table = self.cache.live[seq_id].table
        evicts = not self.ever_held.isdisjoint(table[-(-cached // self.block_size) :])
        self.ever_held.update(table)
        if cached:
            self.count("hit")
        if cached and evicts:
            self.count("eviction while a hit is taken")
        if was_used:
            self.count("id used again")

    def teardown(self) -> None:
        """Everything comes home."""
        if not self.is_over and hasattr(self, "cache"):
            self.call("close")


def tokens_of(length: int, pattern: int) -> list[int]:
    """Tokens 0 and 1, after the bits of a number."""
    return [pattern >> position % 8 & 1 for position in range(length)]

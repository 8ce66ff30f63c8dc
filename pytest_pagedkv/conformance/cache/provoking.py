"""Random programs, continued: scenarios of a few calls, each leading to where a class of bugs shows."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from pytest_pagedkv.adapter import Feature
from pytest_pagedkv.conformance.cache.machine import CacheMachine, bits, having, picks, tokens_of

__all__ = ["ProvokingMachine"]

tails = st.integers(1, 3)
backs = st.integers(1, 9)
pressures = st.sampled_from([0, 1, 2])  # blocks that others take beyond those that were free before
spaces = st.sampled_from([("a", ""), ("", "a"), ("01", "0"), ("0", "01")])  # one begins as another does


class ProvokingMachine(CacheMachine):
    """The rules of `CacheMachine`, and longer ones."""

    @having(Feature.PREFIX_CACHE, live=True)
    @rule(which=picks, grow=st.integers(0, 4), over=pressures, tail=tails, pattern=bits, fail=st.booleans())
    def return_under_pressure(
        self, which: int, grow: int, over: int, tail: int, pattern: int, fail: bool
    ) -> None:
        """The next turn of a conversation, after others took what was free before it ended, or a bit more.

        Before it ends another prompt comes and goes; a request that begins with that one may then be refused.
        """
        seq_id = self.pick_small(which)
        self.make_room(2 * self.block_size + grow + tail, keep=seq_id)
        self.do_append(seq_id, tokens_of(1 + grow, pattern))
        namespace, tokens = self.namespaces[seq_id], self.tokens[seq_id]
        idle = tokens_of(2 * self.block_size, 255 - pattern)
        self.admit_and_release(idle)
        num_others = self.num_free() + over
        self.do_release(seq_id)
        if fail:
            self.do_admit([*idle, *tokens_of((self.num_free() + tail) * self.block_size, pattern)])
        others = self.do_admit(tokens_of(num_others * self.block_size, pattern)) if num_others > 0 else None
        if others is not None and Feature.TRUNCATE in self.adapter.features:
            self.do_truncate(others, 1)
        self.do_admit([*tokens, *tokens_of(tail, pattern)], namespace)
        self.count("came back under pressure")

    @having(Feature.NAMESPACE | Feature.PREFIX_CACHE, live=True)
    @rule(which=picks, pair=spaces, tail=tails, glue=st.booleans(), swap=st.booleans())
    def ask_elsewhere(self, which: int, pair: tuple[str, str], tail: int, glue: bool, swap: bool) -> None:
        """A prompt in one namespace, then twice in another, so that the last request hits.

        Or else the first namespace reads like a block of tokens, which then stands before the prompt.
        """
        num_blocks = max(2, self.cache.adapter.usable_blocks // 3 - 1)
        tokens = self.tokens[self.pick_small(which)]
        tokens = [*tokens[: (num_blocks - 1) * self.block_size], *tokens_of(tail + self.block_size, 0)]
        self.make_room(3 * len(tokens) + self.block_size)
        block = tokens_of(self.block_size, tail)
        one, other = ("".join(map(str, block)), "") if glue else pair
        first = self.do_admit(tokens, one)
        if first is not None:
            if swap and Feature.SWAP in self.adapter.features:
                self.do_swap_out(first)
                self.do_swap_in(first)
            self.do_release(first)
        self.admit_and_release([*block, *tokens] if glue else tokens, other)
        if self.do_admit([*block, *tokens] if glue else tokens, other) is not None:
            self.count("a prompt in one namespace and twice in another")

    @having(Feature.TRUNCATE | Feature.PREFIX_CACHE, live=True)
    @rule(which=picks, back=backs, more=st.integers(0, 4), tail=tails)
    def roll_back_and_ask(self, which: int, back: int, more: int, tail: int) -> None:
        """Rejected drafts, and then a request for what was rejected."""
        seq_id = self.pick_small(which)
        namespace, tokens = self.namespaces[seq_id], list(self.tokens[seq_id])
        self.make_room(len(tokens) + more + tail, keep=seq_id)
        self.rewrite(seq_id, back, more)
        if self.do_admit([*tokens, *tokens_of(tail, 0)], namespace) is not None:
            self.count("asked for what was rolled back")

    @having(Feature.FORK | Feature.TRUNCATE | Feature.PREFIX_CACHE, live=True)
    @rule(which=picks, back=backs, more=st.integers(0, 4), tail=tails, end=st.booleans())
    def branch_off(self, which: int, back: int, more: int, tail: int, end: bool) -> None:
        """A child goes back and on in another way; then what the parent has is asked for."""
        parent = self.pick_small(which)
        namespace, tokens = self.namespaces[parent], list(self.tokens[parent])
        self.make_room(2 * len(tokens) + more + tail, keep=parent)
        child = self.do_fork(parent)
        if child is None:
            return
        self.rewrite(child, back, more)
        if end:
            self.do_release(parent)
        if self.do_admit([*tokens, *tokens_of(tail, 0)], namespace) is not None:
            self.count("child went back and on otherwise")

    @having(Feature.PREFIX_CACHE | Feature.TRUNCATE)
    @rule(num_blocks=st.integers(1, 3), pattern=bits, back=st.integers(1, 3), first=st.booleans(), tail=tails)
    def twins_part(self, num_blocks: int, pattern: int, back: int, first: bool, tail: int) -> None:
        """Of two requests with the same prompt one goes on otherwise, the other ends and comes back."""
        prompt = tokens_of(num_blocks * self.block_size, pattern)
        self.make_room(3 * len(prompt))
        twins = [self.do_admit(prompt), self.do_admit(prompt)]
        changed, ended = twins if first else reversed(twins)
        if changed is not None and ended is not None:
            self.rewrite(changed, back, 0)
            self.do_release(ended)
            if self.do_admit([*prompt, *tokens_of(tail, 0)]) is not None:
                self.count("twins part")

    @having(Feature.RESET | Feature.PREFIX_CACHE, live=True)
    @rule(which=picks, more=st.integers(1, 4), tail=tails)
    def go_on_after_reset(self, which: int, more: int, tail: int) -> None:
        """What a sequence writes behind tokens from before a reset must not be found either."""
        seq_id = self.pick_small(which)
        self.make_room(2 * (len(self.tokens[seq_id]) + more), keep=seq_id)
        self.call("reset_prefix_cache")
        if self.do_append(seq_id, tokens_of(more, 0)):
            tokens = [*self.tokens[seq_id], *tokens_of(tail, 0)]
            self.admit_and_release(tokens, self.namespaces[seq_id])
            if self.do_admit(tokens, self.namespaces[seq_id]) is not None:
                self.count("went on after a reset")

    @having(Feature.SWAP, live=True, room=True)
    @rule(which=picks, leave=st.integers(0, 3), pattern=bits)
    def swap_under_pressure(self, which: int, leave: int, pattern: int) -> None:
        """While a sequence is swapped out, others take all blocks but a few."""
        seq_id = self.pick(which)
        self.do_swap_out(seq_id)
        if self.num_free() > leave:
            self.do_admit(tokens_of((self.num_free() - leave) * self.block_size, pattern))
        self.do_swap_in(seq_id)

    # ---- what rules are made of

    def admit_and_release(self, tokens: list[int], namespace: str = "") -> None:
        """A request that comes and goes."""
        seq_id = self.do_admit(tokens, namespace)
        if seq_id is not None:
            self.do_release(seq_id)

    def rewrite(self, seq_id: int, back: int, more: int) -> None:
        """Cut a sequence, and go on with another token than the one that was there."""
        tokens = self.tokens[seq_id]
        keep = max(1, len(tokens) - back)
        other = [1 - token for token in tokens[keep : keep + 1]]
        self.do_truncate(seq_id, keep)
        self.do_append(seq_id, [*(other or [0]), *tokens_of(more, 0)])

    def pick_small(self, number: int) -> int:
        """A sequence on the device that fits the pool a few times, if there is one."""
        most = self.cache.adapter.usable_blocks // 3 * self.block_size
        small = [seq_id for seq_id in self.on_device if len(self.tokens[seq_id]) <= most]
        return small[-1 - number % len(small)] if small else self.pick(number)

    def make_room(self, num_tokens: int, keep: int | None = None) -> None:
        """Release sequences but one, the oldest first, until there is room for so many more tokens."""
        needed = -(-num_tokens // self.block_size) + 2
        for seq_id in [other for other in self.on_device if other != keep]:
            if self.num_free() < needed or len(self.tokens) > 3:
                self.do_release(seq_id)

    def num_free(self) -> int:
        """Blocks that others can have; none when the program is over."""
        return 0 if self.is_over else self.cache.num_free_blocks() - self.cache.adapter.max_overhead_blocks

"""Kernels that were not compiled before the first step: which step meets them first, and what that costs."""

from pagedkv.scheduler.step import ScheduledStep

__all__ = ["COMPILE_NS", "FirstCalls"]

COMPILE_NS = 2_300_000_000
"""Compiling one kernel: Triton 3.7.1 took 97 s for the 84 of ours, two at a time (docs/compiler_gate.md)."""


class FirstCalls:
    """The kernels that steps have called: writing KV, attention of decodes and of prompts, copies of blocks.

    Other sizes of these compile nothing (docs/kernels.md). A second variant of a decode, for few long
    sequences, is not told apart.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def num_new(self, step: ScheduledStep) -> int:
        """How many kernels a step is the first to call."""
        if len(self._known) == _NUM_KERNELS:
            return 0
        called = {"kv_write"}
        called |= {"paged_decode"} if len(step.decodes) else set()
        called |= {"paged_prefill"} if step.chunks else set()
        called |= {"block_copy"} if step.copies else set()
        num_new = len(called - self._known)
        self._known |= called
        return num_new


_NUM_KERNELS = 4

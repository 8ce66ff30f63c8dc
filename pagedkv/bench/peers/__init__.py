"""Attention of other projects on the same problem, in the same run.

A peer that is not installed, will not load, or does not do what a shape asks for, raises `PeerUnavailable`
with the reason. One that refuses when it is called is skipped with what it said.
"""

from collections.abc import Callable, Mapping

from pagedkv.bench.attention import AttentionProblem
from pagedkv.bench.peers import flashinfer, flex, sdpa, vllm
from pagedkv.bench.timing import Contestant

__all__ = ["PEERS_CPU", "PEERS_CUDA", "Builder"]

Builder = Callable[[AttentionProblem], Contestant]
"""From a problem to a peer that solves it."""

PEERS_CPU: Mapping[str, Builder] = {
    "sdpa": sdpa.contiguous,
    "flex_attention": flex.contiguous,
    "flashinfer": flashinfer.paged,
    "vllm triton": vllm.paged,
}
"""By name, in the order in which they are told, for the CPU."""
PEERS_CUDA: Mapping[str, Builder] = {
    "sdpa flash": sdpa.flash,
    "sdpa cudnn": sdpa.cudnn,
    "flex_attention": flex.contiguous,
    "flashinfer": flashinfer.paged,
    "vllm triton": vllm.paged,
}
"""By name, in the order in which they are told, for a GPU."""

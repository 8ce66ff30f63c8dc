"""torch's scaled_dot_product_attention on contiguous keys and values: attention without pages.

Keys and values have been laid out for it before the time begins, so that it is ahead by all that paging
costs. The queries of a KV head are rows of one matrix where no mask is needed; elsewhere KV heads are
repeated: beforehand on the CPU, by the kernel itself on a GPU. A prefix that sequences share is read once
for each.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from pagedkv.bench.attention import AttentionProblem
from pagedkv.bench.peers.unavailable import PeerUnavailable
from pagedkv.bench.timing import Contestant, Outputs

__all__ = ["contiguous", "cudnn", "flash"]


def contiguous(problem: AttentionProblem) -> Contestant:
    """Whatever torch chooses."""
    return _contestant("sdpa", problem, _call(problem))


def flash(problem: AttentionProblem) -> Contestant:
    """Its FlashAttention."""
    return _on_backend("sdpa flash", problem, SDPBackend.FLASH_ATTENTION)


def cudnn(problem: AttentionProblem) -> Contestant:
    """Its call of cuDNN.

    Raises:
        PeerUnavailable: new tokens continue a sequence, for which torch knows no causal mask there.
    """
    if 1 < problem.case.query_len < problem.case.length:
        raise PeerUnavailable("torch has no causal mask for cuDNN where there is context before the chunk")
    return _on_backend("sdpa cudnn", problem, SDPBackend.CUDNN_ATTENTION)


def _on_backend(name: str, problem: AttentionProblem, backend: SDPBackend) -> Contestant:
    call = _call(problem)

    def run() -> torch.Tensor:
        with sdpa_kernel(backend):
            return call()

    return _contestant(name, problem, run)


def _contestant(name: str, problem: AttentionProblem, run: Callable[[], torch.Tensor]) -> Contestant:
    def outputs(returned: torch.Tensor | None) -> Outputs:
        if returned is None or problem.case.query_len == 1:
            return problem.tokens(returned)  # [batch, num_kv_heads, group, head_dim]: heads in their order
        return problem.tokens(returned.transpose(1, 2))

    return Contestant(name, run, outputs)


def _call(problem: AttentionProblem) -> Callable[[], torch.Tensor]:
    case, (key, value) = problem.case, problem.contiguous
    if case.query_len == 1:
        folded = problem.query.view(case.batch, case.heads.num_kv_heads, case.heads.group, -1)
        return partial(scaled_dot_product_attention, folded, key, value, scale=problem.scale)
    query = problem.query.transpose(1, 2).contiguous()
    is_whole = case.query_len == case.length
    on_cuda = problem.device.type == "cuda"
    if not on_cuda:
        key, value = (each.repeat_interleave(case.heads.group, dim=1) for each in (key, value))
    return partial(
        scaled_dot_product_attention,
        query,
        key,
        value,
        attn_mask=None if is_whole else causal_lower_right(case.query_len, case.length),
        is_causal=is_whole,
        scale=problem.scale,
        enable_gqa=on_cuda,
    )

"""vLLM's Triton kernel on the same pages, which it reads through strides."""

from typing import Any

import torch

from pagedkv.bench.attention import AttentionProblem
from pagedkv.bench.peers.unavailable import PeerUnavailable, imported, require_cuda
from pagedkv.bench.timing import Contestant

__all__ = ["paged"]

_MODULE = "vllm.v1.attention.ops.triton_unified_attention"
_SMALL_GRID = 128
"""Programs below which it splits sequences, and into how many parts: as its own backend calls it."""
_SEGMENTS = 16


def paged(problem: AttentionProblem) -> Contestant:
    """Its one kernel for decode and prefill.

    Raises:
        PeerUnavailable: it is not there, or this shape is none that it is called with here.
    """
    require_cuda(problem.device.type, "vLLM's Triton kernel")
    if problem.case.dtype == "fp8":
        raise PeerUnavailable("vLLM's scales for fp8 are not wired up here")
    attend = imported(_MODULE).unified_attention
    query = problem.query.flatten(0, 1)
    out = torch.empty_like(query)
    arguments = _arguments(problem) | {"q": query, "out": out}

    def run() -> torch.Tensor:
        attend(**arguments)
        return out

    return Contestant("vllm triton", run, problem.tokens, poison=lambda: out.fill_(torch.nan))


def _arguments(problem: AttentionProblem) -> dict[str, Any]:
    case = problem.case
    return {
        "k": problem.kv[:, 0].transpose(1, 2),
        "v": problem.kv[:, 1].transpose(1, 2),
        "cu_seqlens_q": problem.query_starts,
        "max_seqlen_q": case.query_len,
        "seqused_k": problem.seq_lens,
        "max_seqlen_k": case.length,
        "softmax_scale": problem.scale,
        "causal": True,
        "window_size": (-1, -1),
        "block_table": problem.block_tables,
        "softcap": 0,
        "q_descale": None,
        "k_descale": None,
        "v_descale": None,
        **_scratch(problem),
    }


def _scratch(problem: AttentionProblem) -> dict[str, Any]:
    heads = problem.case.heads
    threshold = _SMALL_GRID // heads.num_kv_heads
    padded = 1 << (heads.head_dim - 1).bit_length()
    shape = (threshold, heads.num_query_heads, _SEGMENTS)

    def floats(*size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.float32, device=problem.device)

    return {
        "seq_threshold_3D": threshold,
        "num_par_softmax_segments": _SEGMENTS,
        "softmax_segm_output": floats(*shape, padded),
        "softmax_segm_max": floats(*shape),
        "softmax_segm_expsum": floats(*shape),
    }

"""FlashInfer's kernels on the same pages. Its plan is made before the time begins."""

from functools import partial
from typing import Any

import torch

from pagedkv.bench.attention import AttentionProblem
from pagedkv.bench.peers.unavailable import PeerUnavailable, imported, require_cuda
from pagedkv.bench.timing import Contestant

__all__ = ["paged"]

_WORKSPACE_BYTES = 256 << 20


def paged(problem: AttentionProblem) -> Contestant:
    """Decode or prefill.

    Raises:
        PeerUnavailable: it is not there, or has no kernel for this.
    """
    require_cuda(problem.device.type, "FlashInfer")
    if problem.case.dtype == "fp32":
        raise PeerUnavailable("FlashInfer has no kernels for fp32")
    library = imported("flashinfer")
    plan = _decode if problem.case.query_len == 1 else _prefill
    return Contestant("flashinfer", plan(problem, library), problem.tokens)


def _pages(problem: AttentionProblem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where the pages of each sequence begin, the pages, and tokens on the last of each; on the device."""
    case = problem.case
    starts = torch.arange(case.batch + 1, dtype=torch.int32, device=problem.device) * case.blocks_per_sequence
    last = case.length - (case.blocks_per_sequence - 1) * case.page
    return starts, problem.block_tables.flatten(), torch.full_like(problem.seq_lens, last)


def _decode(problem: AttentionProblem, library: Any) -> Any:
    heads, case = problem.case.heads, problem.case
    wrapper = library.BatchDecodeWithPagedKVCacheWrapper(_workspace(problem), "HND", use_tensor_cores=True)
    wrapper.plan(
        *_pages(problem),
        heads.num_query_heads,
        heads.num_kv_heads,
        heads.head_dim,
        case.page,
        q_data_type=problem.query.dtype,
        kv_data_type=problem.kv.dtype,
        sm_scale=problem.scale,
    )
    return partial(wrapper.run, problem.query[:, 0], problem.kv)


def _prefill(problem: AttentionProblem, library: Any) -> Any:
    heads, case = problem.case.heads, problem.case
    wrapper = library.BatchPrefillWithPagedKVCacheWrapper(_workspace(problem), "HND")
    wrapper.plan(
        problem.query_starts,
        *_pages(problem),
        heads.num_query_heads,
        heads.num_kv_heads,
        heads.head_dim,
        case.page,
        causal=True,
        sm_scale=problem.scale,
        q_data_type=problem.query.dtype,
        kv_data_type=problem.kv.dtype,
    )
    return partial(wrapper.run, problem.query.flatten(0, 1), problem.kv)


def _workspace(problem: AttentionProblem) -> torch.Tensor:
    return torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=problem.device)

"""torch's flex_attention, compiled, on contiguous keys and values."""

from typing import Any

import torch

from pagedkv.bench.attention import AttentionProblem
from pagedkv.bench.peers.unavailable import imported, require_cuda
from pagedkv.bench.timing import Contestant, Outputs

__all__ = ["contiguous"]


def contiguous(problem: AttentionProblem) -> Contestant:
    """A kernel compiled for the shape. What was compiled for others is forgotten: torch keeps few.

    Raises:
        PeerUnavailable: it is not there, or there is no GPU, without which compiling takes far longer than
            all measuring.
    """
    require_cuda(problem.device.type, "flex_attention, which has to be compiled for each shape,")
    flex = imported("torch.nn.attention.flex_attention")
    torch.compiler.reset()
    compiled: Any = torch.compile(flex.flex_attention, dynamic=False)
    case, (key, value) = problem.case, problem.contiguous
    query = problem.query.transpose(1, 2).contiguous()
    mask = None if case.query_len == 1 else _causal(problem, flex)

    def run() -> torch.Tensor:
        output: torch.Tensor = compiled(
            query, key, value, block_mask=mask, scale=problem.scale, enable_gqa=case.heads.group > 1
        )
        return output

    def outputs(returned: torch.Tensor | None) -> Outputs:
        return problem.tokens(None if returned is None else returned.transpose(1, 2))

    return Contestant("flex_attention", run, outputs)


def _causal(problem: AttentionProblem, flex: Any) -> object:
    case = problem.case
    before = case.length - case.query_len

    def is_seen(_batch: object, _head: object, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return query + before >= key

    return flex.create_block_mask(is_seen, None, None, case.query_len, case.length, device=problem.device)

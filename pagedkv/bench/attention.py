"""Problems for the attention kernels, what is right, and our contestants."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from pagedkv.bench.cases import COMPUTE_DTYPE, Case
from pagedkv.bench.limits import DTYPES
from pagedkv.bench.results import OURS
from pagedkv.bench.timing import Contestant, Outputs
from pagedkv.errors import PagedKVError
from pagedkv.kv_store import KVStore

if TYPE_CHECKING:
    from pagedkv.kernels import AttentionOptions, Workspace

__all__ = ["TOLERANCE", "AttentionCheck", "AttentionProblem", "fill", "ours", "unshared"]

TOLERANCE = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 1e-2}
"""The largest relative error of a right result: several roundings of the dtype, TF32 not among them."""

_MOST_ROWS = 128
_SCORES = 1 << 25
"""The reference holds as many scores at once, in 64 bits."""


class AttentionProblem:
    """Random inputs on a shape. Blocks of a sequence are scattered over the pool.

    Args:
        case: the shape.
        device: where.
        generator: source of the numbers.

    Attributes:
        case: the shape.
        device: where.
        kv: a layer, `[num_blocks, 2, num_kv_heads, page, head_dim]`.
        block_tables: `[batch, blocks_per_sequence]` (int32).
        seq_lens: `[batch]` (int32).
        query: `[batch, query_len, num_query_heads, head_dim]`.
        scale: of the scores.
    """

    def __init__(self, case: Case, device: torch.device, generator: torch.Generator) -> None:
        heads, dtype = case.heads, DTYPES[COMPUTE_DTYPE[case.dtype]]
        self.case = case
        self.device = device
        store = KVStore(
            num_layers=1,
            num_blocks=case.num_blocks,
            block_size=case.page,
            num_kv_heads=heads.num_kv_heads,
            head_dim=heads.head_dim,
            dtype=DTYPES[case.dtype],
            device=device,
        )
        self.kv = store.layer(0)
        fill(self.kv, generator)
        self.block_tables = _tables(case, generator).to(device)
        self.seq_lens = torch.full((case.batch,), case.length, dtype=torch.int32, device=device)
        shape = (case.batch, case.query_len, heads.num_query_heads, heads.head_dim)
        self.query = torch.randn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)
        self.scale = heads.head_dim**-0.5

    @property
    def query_starts(self) -> torch.Tensor:
        """`[batch + 1]` (int32) where the query tokens of each sequence begin, and the last ones end."""
        numbers = torch.arange(self.case.batch + 1, dtype=torch.int32, device=self.device)
        return numbers * self.case.query_len

    @cached_property
    def contiguous(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values as peers without pages want them, `[batch, num_kv_heads, length, head_dim]` each.

        Of the dtype of the query.
        """
        key, value = (
            torch.stack([self.sequence(i, part) for i in range(self.case.batch)]) for part in (0, 1)
        )
        return key, value

    def sequence(self, index: int, part: int) -> torch.Tensor:
        """Keys (part 0) or values (1) of a sequence, `[num_kv_heads, length, head_dim]`, as query's dtype."""
        pages = self.kv[self.block_tables[index].long(), part].to(self.query.dtype)
        return pages.transpose(0, 1).flatten(1, 2)[:, : self.case.length]

    def tokens(self, output: torch.Tensor | None) -> Outputs:
        """An output as the check wants it, `[num_tokens, num_query_heads, head_dim]`."""
        if output is None:
            raise PagedKVError("the kernel returned no output")
        return [output.reshape(-1, *self.query.shape[2:])]


@dataclass(frozen=True, slots=True)
class AttentionCheck:
    """Compares results with attention in 64 bits.

    Attributes:
        rows: `[num_rows]` (int64) query tokens that are compared: all of them, or some of each sequence where
            there are many. The others have to be finite.
        expected: `[num_rows, num_query_heads, head_dim]` (float64).
        limit: the largest error of a right result.
    """

    rows: torch.Tensor
    expected: torch.Tensor
    limit: float

    @classmethod
    def of(cls, problem: AttentionProblem) -> "AttentionCheck":
        """Compute what is right."""
        case = problem.case
        rows = _compared(case, problem.device)
        expected = torch.cat([_attended(problem, i, rows) for i in range(case.batch)])
        firsts = torch.arange(case.batch, device=rows.device) * case.query_len
        limit = TOLERANCE[COMPUTE_DTYPE[case.dtype]]
        return cls((firsts[:, None] + rows).flatten(), expected, limit)

    def error(self, outputs: Outputs) -> float:
        """The norm of the difference over the norm of what is right."""
        [output] = outputs
        if not bool(output.isfinite().all()):
            return float("inf")
        difference = output[self.rows].double() - self.expected
        return float(difference.norm() / self.expected.norm())


def fill(kv: torch.Tensor, generator: torch.Generator) -> None:
    """Fill a layer with random numbers, some blocks at a time."""
    number = max(1, _SCORES // kv[0].numel())
    for first in range(0, kv.shape[0], number):
        blocks = kv[first : first + number]
        blocks.copy_(torch.randn(blocks.shape, generator=generator, device=kv.device))


def _tables(case: Case, generator: torch.Generator) -> torch.Tensor:
    """Block tables; the blocks of a shared prefix come first in all of them."""
    blocks = torch.randperm(case.num_blocks, generator=generator, device=generator.device)
    num_shared = case.prefix // case.page
    own = blocks[num_shared:].view(case.batch, -1)
    return torch.cat([blocks[:num_shared].expand(case.batch, -1), own], dim=1).int().contiguous()


def _compared(case: Case, device: torch.device) -> torch.Tensor:
    """Query tokens of a sequence that are compared, the first and the last among them."""
    room = _SCORES // (case.heads.num_query_heads * case.length)
    number = max(1, min(case.query_len, _MOST_ROWS, room))
    rows = torch.linspace(case.query_len - 1, 0, number, dtype=torch.float64).round().tolist()
    return torch.tensor(sorted({int(row) for row in rows}), device=device)


def _attended(problem: AttentionProblem, index: int, rows: torch.Tensor) -> torch.Tensor:
    """Right outputs of some query tokens of a sequence, `[num_rows, num_query_heads, head_dim]` (float64)."""
    case = problem.case
    key, value = (problem.sequence(index, part).double() for part in (0, 1))
    query = problem.query[index, rows].double()
    grouped = query.view(len(rows), case.heads.num_kv_heads, case.heads.group, -1)
    scores = torch.einsum("rhgd,hnd->hgrn", grouped, key) * problem.scale
    positions = case.length - case.query_len + rows
    unseen = torch.arange(case.length, device=rows.device) > positions[:, None]
    weights = scores.masked_fill_(unseen, float("-inf")).softmax(-1)
    return torch.einsum("hgrn,hnd->rhgd", weights, value).flatten(1, 2)


def ours(problem: AttentionProblem) -> Contestant:
    """The kernel that the case names, with its output and its scratch memory allocated before."""
    from pagedkv.kernels import AttentionOptions, Workspace

    options = AttentionOptions(scale=problem.scale)
    workspace = Workspace(problem.device)
    build = {"paged_decode": _decode, "paged_prefill": _prefill, "paged_decode_shared": _decode_shared}
    return build[problem.case.kernel](problem, options, workspace)


def unshared(problem: AttentionProblem) -> Contestant:
    """For `paged_decode_shared`: the kernel that reads what is shared once for each sequence."""
    from pagedkv.kernels import AttentionOptions, Workspace

    options = AttentionOptions(scale=problem.scale)
    contestant = _decode(problem, options, Workspace(problem.device))
    return replace(contestant, name="paged_decode")


def _decode(problem: AttentionProblem, options: "AttentionOptions", workspace: "Workspace") -> Contestant:
    from pagedkv.kernels import paged_decode

    out = torch.empty_like(problem.query)
    arguments = (problem.query, problem.kv, problem.block_tables, problem.seq_lens, options)
    return Contestant(
        OURS,
        run=lambda: paged_decode(*arguments, out=out, workspace=workspace),
        outputs=problem.tokens,
        poison=lambda: out.fill_(torch.nan),
    )


def _prefill(problem: AttentionProblem, options: "AttentionOptions", workspace: "Workspace") -> Contestant:
    from pagedkv.kernels import paged_prefill

    query = problem.query.flatten(0, 1)
    out = torch.empty_like(query)
    arguments = (query, problem.query_starts, problem.kv, problem.block_tables, problem.seq_lens, options)
    return Contestant(
        OURS,
        run=lambda: paged_prefill(*arguments, out=out, workspace=workspace),
        outputs=problem.tokens,
        poison=lambda: out.fill_(torch.nan),
    )


def _decode_shared(
    problem: AttentionProblem, options: "AttentionOptions", workspace: "Workspace"
) -> Contestant:
    """All sequences are one group."""
    from pagedkv.kernels import SharedPrefixes, paged_decode_shared

    case, out = problem.case, torch.empty_like(problem.query)
    prefixes = SharedPrefixes(
        group_starts=torch.tensor([0, case.batch], dtype=torch.int32, device=problem.device),
        prefix_lens=torch.full_like(problem.seq_lens, case.prefix),
        max_group_size=case.batch,
    )
    arguments = (problem.query, problem.kv, problem.block_tables, problem.seq_lens, prefixes, options)
    return Contestant(
        OURS,
        run=lambda: paged_decode_shared(*arguments, out=out, workspace=workspace),
        outputs=problem.tokens,
        poison=lambda: out.fill_(torch.nan),
    )

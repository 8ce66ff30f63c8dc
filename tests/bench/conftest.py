"""Small shapes and a clock that costs little."""

from dataclasses import replace

from pagedkv.bench.cases import Case, Heads
from pagedkv.bench.grid import Choice, cases_of

SMALL = Heads(num_query_heads=4, num_kv_heads=2, head_dim=64)


def small_cases(kernel: str, dtype: str = "fp32") -> list[Case]:
    """Two sequences of 40 tokens on blocks of 16; a prompt also in a chunk of 16."""
    choice = Choice(
        device="cpu", kernels=[kernel], dtype=[dtype], page=[16], batch=[2], length=[40], heads=SMALL
    )
    cases = cases_of(choice)
    return [*cases, replace(cases[0], query_len=16)] if kernel == "paged_prefill" else cases

"""Plans that the attention of several layers shares on the CPU: the same numbers, and never another's."""

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels import AttentionOptions, AttentionPlan, paged_decode, paged_prefill
from pagedkv.kernels.cpu_attention import run
from pagedkv.kv_store import FP8_DTYPE

_NUM_BLOCKS, _BLOCK_SIZE, _NUM_KV_HEADS, _NUM_HEADS, _HEAD_DIM = 24, 4, 2, 6, 8
_PLAIN = AttentionOptions(scale=0.3)
_WINDOW = AttentionOptions(scale=0.3, sliding_window=5)
_LAYERS = (_PLAIN, _WINDOW, AttentionOptions(scale=0.2, soft_cap=2.0), _PLAIN, _WINDOW)
_Call = Callable[..., torch.Tensor]


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _layer(seed: int) -> torch.Tensor:
    return _random(_NUM_BLOCKS, 2, _NUM_KV_HEADS, _BLOCK_SIZE, _HEAD_DIM, seed=seed)


def _tables() -> torch.Tensor:
    return torch.randperm(_NUM_BLOCKS, generator=torch.Generator().manual_seed(1)).view(4, 6).int()


def _lens(*lens: int) -> torch.Tensor:
    return torch.tensor(lens, dtype=torch.int32)


def _decode(lens: torch.Tensor, tables: torch.Tensor, query_len: int = 1) -> _Call:
    query = _random(4, query_len, _NUM_HEADS, _HEAD_DIM)
    return lambda kv, options, **more: paged_decode(query, kv, tables, lens, options, **more)


def _prefill(lens: torch.Tensor, tables: torch.Tensor) -> _Call:
    query, starts = _random(17, _NUM_HEADS, _HEAD_DIM), _lens(0, 3, 3, 11, 15)
    return lambda kv, options, **more: paged_prefill(query, starts, kv, tables, lens, options, **more)


@pytest.mark.parametrize("are_kept", [True, False])
@pytest.mark.parametrize("call", [_decode, _prefill])
def test_layers_that_share_a_plan_get_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., _Call], are_kept: bool
) -> None:
    """Whatever their windows and caps, and whether the batches are kept or made again."""
    if not are_kept:
        monkeypatch.setattr(run, "_MOST_SCORES", 0)
    attend, plan = call(_lens(9, 4, 24, 13), _tables()), AttentionPlan()
    for layer, options in enumerate(_LAYERS):
        kv = _layer(layer)
        assert torch.equal(attend(kv, options, plan=plan), attend(kv, options))


def test_one_plan_serves_decodes_and_chunks_of_several_sizes() -> None:
    """As in a forward that has both."""
    tables, lens, plan, kv = _tables(), _lens(9, 4, 24, 13), AttentionPlan(), _layer(0)
    for attend in (_decode(lens, tables), _prefill(lens, tables), _decode(lens, tables, query_len=3)) * 2:
        assert torch.equal(attend(kv, _PLAIN, plan=plan), attend(kv, _PLAIN))


def test_layers_of_other_layouts_and_dtypes_plan_for_themselves() -> None:
    """Their pages lie elsewhere."""
    attend, plan = _decode(_lens(9, 4, 24, 13), _tables()), AttentionPlan()
    interleaved = _layer(1).transpose(2, 3).contiguous().transpose(2, 3)
    for kv in (_layer(0), interleaved, _layer(2).to(FP8_DTYPE)) * 2:
        assert torch.equal(attend(kv, _PLAIN, plan=plan), attend(kv, _PLAIN))


@pytest.mark.parametrize("call", [_decode, _prefill])
def test_a_plan_for_other_tables_or_lengths_is_not_used(call: Callable[..., _Call]) -> None:
    """Of the same shapes, too."""
    plan, kv = AttentionPlan(), _layer(0)
    tables, lens = _tables(), _lens(9, 4, 24, 13)
    call(lens, tables)(kv, _PLAIN, plan=plan)
    for others in ((lens, tables.flip(0)), (_lens(8, 20, 10, 4), tables), (lens.clone(), tables.clone())):
        attend = call(*others)
        assert torch.equal(attend(kv, _PLAIN, plan=plan), attend(kv, _PLAIN))


def test_tensors_of_a_plan_are_kept_so_that_no_other_takes_their_address() -> None:
    """Tables of one call after the other, each dropped after it."""
    plan, kv = AttentionPlan(), _layer(0)
    for seed in range(8):
        lens = torch.randint(1, 25, (4,), generator=torch.Generator().manual_seed(seed)).int()
        attend = _decode(lens, _tables())
        assert torch.equal(attend(kv, _PLAIN, plan=plan), attend(kv, _PLAIN))


@pytest.mark.parametrize("call", [_decode, _prefill])
def test_contents_are_checked_for_every_pool_and_again_after_an_error(call: Callable[..., _Call]) -> None:
    """What does not fit is told each time, and what fits one pool is no news of a smaller one."""
    plan, kv = AttentionPlan(), _layer(0)
    attend = call(_lens(9, 4, 24, 13), _tables())
    attend(kv, _PLAIN, plan=plan)
    for _ in range(2):
        with pytest.raises(KernelInputError, match="the pool has the blocks"):
            attend(kv[:5], _PLAIN, plan=plan)


def test_later_layers_plan_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plan is for; layers of another window plan once more."""
    calls = []
    plain = run.split
    monkeypatch.setattr(run, "split", lambda *args, **more: calls.append(1) or plain(*args, **more))
    attend, plan = _decode(_lens(9, 4, 24, 13), _tables()), AttentionPlan()
    for options in (_PLAIN, _WINDOW) * 3:
        attend(_layer(0), options, plan=plan)
    assert len(calls) == 2

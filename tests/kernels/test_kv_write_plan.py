"""Plans that the writes of several layers share on the CPU: the same bytes, and never another's places."""

from importlib import import_module

import pytest

pytest.importorskip("torch")

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels import AttentionPlan, kv_write
from pagedkv.kv_store import FP8_DTYPE

_NUM_BLOCKS, _BLOCK_SIZE, _NUM_HEADS, _HEAD_DIM = 6, 4, 2, 8
_NUM_TOKENS = 5


def _tokens(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, _NUM_TOKENS, _NUM_HEADS, _HEAD_DIM, generator=generator)


def _layer() -> torch.Tensor:
    return torch.zeros(_NUM_BLOCKS, 2, _NUM_HEADS, _BLOCK_SIZE, _HEAD_DIM)


def _check(kv: torch.Tensor, slots: torch.Tensor, plan: AttentionPlan, seed: int = 0) -> None:
    """Writing with the plan, and without, gives the same layer."""
    planned, plain = kv.clone(memory_format=torch.preserve_format), kv
    kv_write(*_tokens(seed), planned, slots, plan=plan)
    kv_write(*_tokens(seed), plain, slots)
    assert planned.stride() == plain.stride()
    assert torch.equal(planned.float(), plain.float())
    assert plain.float().any()


@pytest.mark.parametrize("slots", [[3, 0, 17, 9, 22], [3, -1, 17, -1, 22]])
def test_layers_that_share_a_plan_get_the_same_bytes(slots: list[int]) -> None:
    """Whether all tokens are written or some are skipped."""
    plan, there = AttentionPlan(), torch.tensor(slots)
    for layer in range(3):
        _check(_layer(), there, plan, seed=layer)


def test_layers_of_other_forms_plan_for_themselves() -> None:
    """Their slots lie elsewhere: other layouts, dtypes and numbers of heads."""
    plan, slots = AttentionPlan(), torch.tensor([3, 0, 17, 9, 22])
    for _ in range(2):
        _check(_layer(), slots, plan)
        _check(_layer().transpose(2, 3).contiguous().transpose(2, 3), slots, plan)
        _check(_layer().transpose(0, 1).contiguous().transpose(0, 1), slots, plan)
        _check(_layer().to(FP8_DTYPE), slots, plan)


def test_a_plan_for_other_slots_is_not_used() -> None:
    """Of the same number, too; and of slots that were dropped since."""
    plan = AttentionPlan()
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        _check(_layer(), torch.randperm(24, generator=generator)[:_NUM_TOKENS], plan)


def test_slots_are_checked_for_every_pool_and_again_after_an_error() -> None:
    """What fits one pool is no news of a smaller one, and a slot that is there twice is told each time."""
    plan, slots, twice = AttentionPlan(), torch.tensor([3, 0, 17, 9, 22]), torch.tensor([3, 0, 3, 9, 2])
    kv_write(*_tokens(0), _layer(), slots, plan=plan)
    for _ in range(2):
        with pytest.raises(KernelInputError, match="the pool has the slots 0 to 19"):
            kv_write(*_tokens(0), _layer()[:5], slots, plan=plan)
        with pytest.raises(KernelInputError, match="are both 3"):
            kv_write(*_tokens(0), _layer(), twice, plan=plan)


def test_later_layers_check_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plan is for."""
    module, calls = import_module("pagedkv.kernels.kv_write"), []
    plain = module.check_unique
    monkeypatch.setattr(module, "check_unique", lambda *args: calls.append(1) or plain(*args))
    plan, slots = AttentionPlan(), torch.tensor([3, 0, 17, 9, 22])
    for _ in range(4):
        kv_write(*_tokens(0), _layer(), slots, plan=plan)
    assert len(calls) == 1

"""The check of kv_write."""

from collections.abc import Sequence

import numpy as np
import torch

from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter
from pytest_pagedkv.conformance.kernels.buffers import (
    Guarded,
    as_bytes,
    check_inputs,
    check_zones,
    dtype_named,
    guarded_integers,
)
from pytest_pagedkv.conformance.kernels.calling import call, explained
from pytest_pagedkv.conformance.kernels.cases import WriteCase
from pytest_pagedkv.conformance.kernels.problem import filled_layers, random_numbers
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_kv_write"]


def check_kv_write(adapter: KernelAdapter, case: WriteCase) -> None:
    """Write tokens to their slots, and compare the whole pool.

    Raises:
        InvariantViolation: something does not hold.
    """
    with explained(check_kv_write, adapter, case):
        rng, device = np.random.default_rng(case.seed), adapter.device
        [layer] = filled_layers(case.pool, 1, rng, device)
        inputs = {name: _tokens(case, rng, device) for name in ("key", "value")}
        inputs["slot_mapping"] = guarded_integers(case.slots, torch.int64, device)
        key, value, slots = (guarded.tensor for guarded in inputs.values())
        scales = (case.kv_scale, case.kv_scale * 2 if case.pool.dtype != case.dtype else 1.0)
        dtype = dtype_named(case.pool.dtype)
        stored = [(key / scales[0]).to(dtype), (value / scales[1]).to(dtype)]
        expected = _expected(case, layer.tensor, stored)
        call(adapter, "kv_write", key, value, layer.tensor, slots, *scales)
        _check_skipped(case, layer, expected, stored)
        check_zones({"kv": layer, **inputs})
        check_inputs(inputs)
        _check_slots(case, layer.tensor, expected)


def _tokens(case: WriteCase, rng: np.random.Generator, device: str) -> Guarded:
    shape = (len(case.slots), case.pool.num_kv_heads, case.pool.head_dim)
    tokens = Guarded(shape, dtype_named(case.dtype), device)
    tokens.tensor.copy_(random_numbers(rng, shape, case.dtype, device))
    tokens.keep()
    return tokens


def _expected(case: WriteCase, kv: torch.Tensor, stored: Sequence[torch.Tensor]) -> torch.Tensor:
    """What has to be in the pool, token by token."""
    expected = kv.clone()
    for token, slot in enumerate(case.slots):
        if slot >= 0:
            block, offset = divmod(slot, case.pool.block_size)
            for part in (0, 1):
                as_bytes(expected)[block, part, :, offset] = as_bytes(stored[part])[token]
    return expected


def _check_skipped(
    case: WriteCase, layer: Guarded, expected: torch.Tensor, stored: Sequence[torch.Tensor]
) -> None:
    """Check that no token with slot -1 is anywhere that it should not be."""
    changed = (as_bytes(layer.tensor) != as_bytes(expected)).any(-1)
    written = bytes(as_bytes(layer.tensor)[changed].cpu().numpy()) + layer.zone_bytes
    for token, slot in enumerate(case.slots):
        if slot < 0 and bytes(as_bytes(stored[0])[token, 0].cpu().numpy()) in written:
            raise InvariantViolation("skip-slot", f"token {token} has slot -1, and was written all the same")


def _check_slots(case: WriteCase, kv: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare the pool; tokens that are not in their slots come before slots that must stay."""
    block_size = case.pool.block_size
    differs = (as_bytes(kv) != as_bytes(expected)).any(-1).nonzero().tolist()
    differs.sort(key=lambda place: place[0] * block_size + place[3] not in case.slots)
    for block, part, head, offset in differs:
        slot = block * block_size + offset
        where = f"slot {slot} (block {block}, offset {offset}), head {head}, {('key', 'value')[part]}"
        if slot not in case.slots:
            raise InvariantViolation("no-stray-write", f"{where} has changed, and no token goes there")
        found, right = (tensor[block, part, head, offset].tolist() for tensor in (kv, expected))
        token = case.slots.index(slot)
        raise InvariantViolation(
            "write-exact", f"token {token} goes to {where}: there is {found}, and it must be {right}"
        )

"""New keys and values go to their slots."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import check_indices, check_pool, check_range, check_unique, is_looking
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kv_store import FP8_DTYPE, KVScales

__all__ = ["kv_write"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NO_SCALES = KVScales()
_LEAST_SCALE, _LARGEST_SCALE = 2.0**-126, 2.0**126  # between them, scale and reciprocal are float32 numbers


def kv_write(
    key: torch.Tensor,
    value: torch.Tensor,
    kv: torch.Tensor,
    slot_mapping: torch.Tensor,
    *,
    scales: KVScales = _NO_SCALES,
    plan: AttentionPlan | None = None,
) -> None:
    """Write the keys and values of tokens to their slots.

    With KV in 8 bits a number is multiplied with the float32 reciprocal of its scale, in float32, clamped to
    -448..448 and rounded to nearest, ties to even; NaN stays NaN. The CPU and every GPU store the same codes.

    For T tokens of H heads of D elements it moves `2 T H D (e + s) + 8 T` bytes, e those of an element, s
    those of a stored one: its floor is that over the bandwidth. On a GPU it is one launch, allocates nothing
    and does not wait.

    Args:
        key: `[num_tokens, num_kv_heads, head_dim]`, views of a fused QKV tensor included.
        value: as key.
        kv: `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, of any `KVLayout`, in the dtype of key or
            in `FP8_DTYPE`; to be written.
        slot_mapping: `[num_tokens]` (int64) `block * block_size + offset`, none twice; -1 skips the token.
        scales: what stored numbers are multiplied with to give keys and values.
        plan: what the calls of one forward share on the CPU, see there; None plans for this call.

    Raises:
        KernelInputError: shapes, dtypes, devices, strides or alignment that do not fit; on the CPU, and
            under `debugging.checking_contents`, also a slot that is not there, or twice. Nothing was written.
    """
    _check(key, value, kv, scales)
    check_indices("slot_mapping", slot_mapping, key.shape[:1], kv)
    if is_looking(kv):
        num_slots = kv.shape[0] * kv.shape[3]
        planned(plan, ("slots", num_slots), (slot_mapping,), lambda: _check_slots(slot_mapping, num_slots))
    if not key.numel():
        return
    with torch.no_grad():
        if backend_of(kv) == "gpu":
            from pagedkv.kernels.kv_write import gpu
            from pagedkv.kernels.launch import Target

            for launch in gpu.launches(key, value, kv, slot_mapping, scales, Target.of(kv.device)):
                launch.run()
        else:
            from pagedkv.kernels.kv_write import cpu

            cpu.kv_write(key, value, kv, slot_mapping, scales, plan)


def _check_slots(slot_mapping: torch.Tensor, num_slots: int) -> None:
    check_range("slot_mapping", slot_mapping, num_slots, start=-1, what="slots")
    check_unique("slot_mapping", slot_mapping)


def _check(key: torch.Tensor, value: torch.Tensor, kv: torch.Tensor, scales: KVScales) -> None:
    if kv.ndim != 5 or kv.shape[1] != 2:
        raise KernelInputError(
            f"kv has the shape {list(kv.shape)}; it must be "
            "[num_blocks, 2, num_kv_heads, block_size, head_dim]"
        )
    check_pool("kv", kv)
    if key.ndim != 3 or key.shape[1:] != (kv.shape[2], kv.shape[4]):
        raise KernelInputError(
            f"key has the shape {list(key.shape)}; kv {list(kv.shape)} takes [num_tokens, {kv.shape[2]}, "
            f"{kv.shape[4]}]"
        )
    for name, tensor in (("value", value), ("kv", kv)):
        if tensor.device != key.device:
            raise KernelInputError(f"key is on {key.device} and {name} on {tensor.device}; move one")
    if value.shape != key.shape or value.dtype != key.dtype:
        raise KernelInputError(
            f"key is {key.dtype} {list(key.shape)} and value {value.dtype} {list(value.shape)}; they must "
            "match"
        )
    _check_dtypes(key, kv, scales)


def _check_dtypes(key: torch.Tensor, kv: torch.Tensor, scales: KVScales) -> None:
    if key.dtype not in _DTYPES:
        raise KernelInputError(f"key is {key.dtype}; it must be one of {', '.join(map(str, _DTYPES))}")
    if kv.dtype not in (key.dtype, FP8_DTYPE):
        raise KernelInputError(f"key is {key.dtype} and kv {kv.dtype}; kv must be {key.dtype} or {FP8_DTYPE}")
    if kv.dtype != FP8_DTYPE and scales != _NO_SCALES:
        raise KernelInputError(f"{scales} with kv in {kv.dtype}; scales are for {FP8_DTYPE}: leave them out")
    if not all(_LEAST_SCALE <= scale <= _LARGEST_SCALE for scale in (scales.k, scales.v)):
        raise KernelInputError(f"{scales} has no float32 reciprocal; use scales between 2**-126 and 2**126")

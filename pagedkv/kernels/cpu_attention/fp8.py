"""Numbers of 8 bits to wider ones, by moving their bits: several times as fast as torch's conversion."""

import torch

from pagedkv.kv_store import FP8_DTYPE

__all__ = ["widen"]

_NAN = 0x7F
_MOVE = 7  # to the left, and exponent and mantissa stand where float16 has them
_KEPT = -0x8000 | (_NAN << _MOVE)
_REBIAS = 2.0**8  # the exponent's bias is 7 in 8 bits, and 15 in float16
_MOST_NUMEL = 1 << 20  # at once, which bounds what is needed in between


def widen(stored: torch.Tensor, wide: torch.Tensor) -> None:
    """Convert, exactly, even where the processor is told to flush subnormal numbers to zero.

    Widening float16 is a conversion, which that does not touch; arithmetic on subnormal numbers is.

    Args:
        stored: `[n]` bytes, each a number of `FP8_DTYPE`.
        wide: `[n]`, written.
    """
    for codes, numbers in zip(torch.split(stored, _MOST_NUMEL), torch.split(wide, _MOST_NUMEL), strict=True):
        if wide.dtype == torch.float16 or int((codes & _NAN).max()) == _NAN:
            numbers.copy_(codes.view(FP8_DTYPE))
        elif wide.dtype == torch.bfloat16:  # torch is slow from float16 to it, unless by way of float32
            numbers.copy_(_as_float16(codes).float().mul_(_REBIAS))
        else:
            numbers.copy_(_as_float16(codes)).mul_(_REBIAS)


def _as_float16(codes: torch.Tensor) -> torch.Tensor:
    """The numbers by `_REBIAS`."""
    bits = codes.view(torch.int8).to(torch.int16)  # extends the sign to the left
    return bits.bitwise_left_shift_(_MOVE).bitwise_and_(_KEPT).view(torch.float16)

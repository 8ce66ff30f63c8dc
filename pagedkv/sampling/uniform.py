"""Random numbers without a state: each is computed from what it is for."""

import numpy as np
import numpy.typing as npt

__all__ = ["UInt64s", "mixed", "uniform"]

UInt64s = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_UNUSED_BITS = np.uint64(12)
_RESOLUTION = 2.0**-52


def uniform(
    seeds: npt.ArrayLike, sample_indices: npt.ArrayLike, positions: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """A number above 0 and below 1 for each (seed, sample, position), always the same one.

    It depends on nothing else: neither on what was drawn before, nor on the machine. The steps are those of
    SplitMix64 (Steele, Lea, Flood 2014), once for each of the three, in integers of 64 bits.

    Args:
        seeds: of the requests, from 0 to 2**64 - 1.
        sample_indices: which sample of the request it is for.
        positions: which of the sample's tokens it is for.

    Returns:
        The numbers, multiples of 2**-53, in the shape to which the three broadcast (at least 1-D).
    """
    bits = np.zeros(1, np.uint64)  # arrays wrap around; numpy warns about scalars that do
    for part in (seeds, sample_indices, positions):
        bits = mixed((bits ^ np.atleast_1d(np.asarray(part, np.uint64))) + _GOLDEN)
    return ((bits >> _UNUSED_BITS).astype(np.float64) + 0.5) * _RESOLUTION


def mixed(bits: UInt64s) -> UInt64s:
    """A hash of each, one to one: the finish of SplitMix64."""
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        bits = (bits ^ (bits >> shift)) * multiplier
    return bits ^ (bits >> _SHIFTS[2])

"""What kernels over a paged KV cache have to keep, by name. Every failure carries one of these names."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["INVARIANTS"]

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "the error against float64 is at most error_ratio times that of torch in the same dtype, "
        "plus a rounding of the result and of the exponents",
        "no-stray-read": "the output of a sequence depends on its own slots only: on no other block, nothing "
        "behind its last token, nothing around a tensor",
        "output-written": "every element of the output is written",
        "no-stray-write": "nothing is written but the output: no slot that is not named, no red zone",
        "inputs-unchanged": "inputs have the same bytes after the call",
        "determinism": "two equal calls give the same bits",
        "write-exact": "kv_write puts a token's key and value in its slot, rounded to what is stored",
        "skip-slot": "a token with slot -1 is written nowhere",
        "copy-exact": "a destination has its source's bytes, keys and values, in every layer",
        "copy-order": "a copy reads what an earlier copy of the call wrote, where ORDERED_COPIES is promised",
        "staging-exact": "gathered blocks have their bytes, in the order asked for, and scattered ones have "
        "them back",
        "documented-errors": "a call within what the adapter declares raises nothing",
    }
)
"""Name -> statement."""

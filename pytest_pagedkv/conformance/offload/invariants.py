"""What an offload tier has to keep, by name. Every failure carries one of these names."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["INVARIANTS"]

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "bytes-equal": "a load without error leaves the stored bytes in its block, whatever happened",
        "no-early-free": "no copy reads a block that is said not to be busy: it may be written at once",
        "late-write": "the tier writes no block but those of loads that are in flight",
        "busy-until-done": "the block of a load is busy until the load is reported as done",
        "done-once": "every operation is reported once, and nothing else is",
        "survives": "what no fault has hit is not lost, and what is unavailable comes back after the fault",
        "capacity": "a tier keeps at most capacity_blocks blocks",
        "no-hang": "calls return, and operations end, in time",
        "stale-files": "after a kill the tier has only what was stored before, with its bytes",
        "space-home": "what failed or was dropped gives its room back: there is room below capacity_blocks, "
        "and with nothing stored the files are those of a new tier",
        "documented-errors": "no error but the ones that the contract has for the call and the fault",
        "well-formed": "answers have the promised type",
    }
)
"""Name -> statement."""

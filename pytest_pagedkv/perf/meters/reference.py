"""The reference workload: what a unit of calibrated time is.

It does what bookkeeping in Python does: small integers in a dict, lists that grow, objects that are made,
linked and dropped. It uses nothing but the language, so that no upgrade of a library moves it; one of Python
does, and timings are not compared between minor versions. A change here is another unit, and then
`REFERENCE_VERSION` goes up.

Copying or scanning memory is left out on purpose: docs/perf_timings.md has what that did to the spread.
"""

from pytest_pagedkv.baselines.fingerprint import REFERENCE_VERSION
from pytest_pagedkv.perf.meters.call import Call

__all__ = ["REFERENCE", "REFERENCE_VERSION"]

_NUM_KEYS = 1021
_NUM_ENTRIES = 1200
_NUM_NODES = 1500


class _Node:
    """A link of a chain."""

    __slots__ = ("next", "value")

    def __init__(self, value: int) -> None:
        self.next: _Node | None = None
        self.value = value


def _fill_table() -> int:
    table: dict[int, list[int]] = {}
    total = 0
    for number in range(_NUM_ENTRIES):
        key = number * 7919 % _NUM_KEYS
        row = table.get(key)
        if row is None:
            table[key] = [number]
        else:
            row.append(number)
        total += len(table)
    return total


def _walk_chain() -> int:
    head: _Node | None = _Node(0)
    last = head
    for number in range(_NUM_NODES):
        if last is not None:
            last.next = _Node(number)
            last = last.next
    total = 0
    while head is not None:
        total += head.value
        head = head.next
    return total


REFERENCE = Call(fn=lambda: (_fill_table(), _walk_chain()))
"""One unit of work, a good half millisecond of one processor."""

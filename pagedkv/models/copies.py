"""Copies of blocks that depend on each other, as calls that do not."""

from collections.abc import Sequence

__all__ = ["waves"]


def waves(copies: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Split copies that are to run in order into groups whose copies may run side by side.

    In a group no destination is a source, or the destination of another copy. A copy goes into the first
    group behind all those that it must follow.

    Args:
        copies: (source block, destination block), in order.
    """
    groups: list[list[tuple[int, int]]] = []
    read: dict[int, int] = {}  # block: the last group that reads it
    written: dict[int, int] = {}
    for source, target in copies:
        if source == target:
            continue
        place = 1 + max(written.get(source, -1), written.get(target, -1), read.get(target, -1))
        if place == len(groups):
            groups.append([])
        groups[place].append((source, target))
        read[source] = max(place, read.get(source, -1))
        written[target] = place
    return groups

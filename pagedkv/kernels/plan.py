"""What the layers of one forward share: the planning of their attention, and of what they write."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch

__all__ = ["AttentionPlan", "planned"]

_T = TypeVar("_T")


class AttentionPlan:
    """What calls on the CPU found out about slots, block tables and lengths, for the next such calls.

    Make one for a forward, give it to the calls of all its layers, and drop it: it is believed that no tensor
    of slots, tables or lengths that it was used with changes as long as it is used. A call with other
    tensors, sizes or options finds nothing that it could use, and plans for itself. On a GPU it does nothing.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        # The tensors are kept, so that an address of theirs is nobody else's.
        self._found: dict[Hashable, tuple[Sequence[torch.Tensor], Any]] = {}

    def get(self, key: Hashable, tensors: Sequence[torch.Tensor], find: Callable[[], _T]) -> _T:
        """What was found for these very tensors, or is found now.

        Args:
            key: all else that it depends on.
            tensors: what it depends on.
            find: finds it; what it raises is raised, and nothing is kept.
        """
        place = (key, *map(id, tensors))
        if place not in self._found:
            self._found[place] = tensors, find()
        found: _T = self._found[place][1]
        return found


def planned(
    plan: AttentionPlan | None, key: Hashable, tensors: Sequence[torch.Tensor], find: Callable[[], _T]
) -> _T:
    """`AttentionPlan.get` where there is a plan and the tensors are on the CPU, else what is found now."""
    if plan is None or any(tensor.device.type != "cpu" for tensor in tensors):
        return find()
    return plan.get(key, tensors, find)

"""What a planted fault is, and how one is declared."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["Fault", "Kind"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in an otherwise correct cache.

    Attributes:
        name: such as "copy-forgotten".
        plants: what is wrong, and which bugs of real engines did the same.
        kind: the part of the cache that it is planted in.
        invariant: the one that it breaks, and by which the suite has to see it.
        adapter_class: the cache with the fault.
    """

    name: str
    plants: str
    kind: str
    invariant: str
    adapter_class: type[ReferenceCache]


class Kind:
    """The faults that are planted in one part of the cache, in the order in which they are declared.

    Args:
        name: of the part.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._faults: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def breaks(
        self, invariant: str, like: str = ""
    ) -> Callable[[type[ReferenceCache]], type[ReferenceCache]]:
        """Declare a class a fault: its name, in words, is the fault's, and its docstring says what it plants.

        Args:
            invariant: the one that it breaks.
            like: bugs of real engines that did the same.
        """

        def declare(planted: type[ReferenceCache]) -> type[ReferenceCache]:
            name = re.sub("(?<!^)([A-Z])", r"-\1", planted.__name__).lower()
            plants = (planted.__doc__ or name) + (f" As in {like}." if like else "")
            self._faults.append(Fault(name, plants, self.name, invariant, planted))
            return planted

        return declare

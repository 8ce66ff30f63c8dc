"""Planted faults: an adapter that is wrong, the invariant that names its class, the test that finds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_pagedkv.adapter import Adapter


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        suite: the suite.
        adapter: the faulty component.
        invariant: what it breaks.
        test: the name of a test of the suite, and its positional arguments.
        named: further arguments by name.
    """

    suite: type
    adapter: type[Adapter]
    invariant: str
    test: tuple[object, ...]
    named: Mapping[str, object]

    def run(self, **fixtures: object) -> None:
        """Run the test."""
        name, *arguments = self.test
        getattr(self.suite(), str(name))(self.adapter, *arguments, **self.named, **fixtures)


class Faults(list[Fault]):
    """The faults of one kind of component."""

    def __init__(self, suite: type) -> None:
        super().__init__()
        self.suite = suite

    def planted(
        self, invariant: str, *test: object, **named: object
    ) -> Callable[[type[Adapter]], type[Adapter]]:
        """Register a class as a fault."""

        def register(adapter: type[Adapter]) -> type[Adapter]:
            self.append(Fault(self.suite, adapter, invariant, test, named))
            return adapter

        return register

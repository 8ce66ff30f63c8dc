"""NVTX ranges, with a library that notes what it is told, and without one."""

import sys
from types import ModuleType

import pytest

from pagedkv.tracing import nvtx_range


class Domain:
    """Notes pushes and pops."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get_event_attributes(self, message: str) -> str:
        """Attributes that are just the message."""
        self.told.append("attributes")
        return message

    def push_range(self, attributes: str) -> None:
        """Note a push."""
        self.told.append(f"push {attributes}")

    def pop_range(self) -> None:
        """Note a pop."""
        self.told.append("pop")


def test_a_range_is_pushed_and_popped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attributes are made once, a range can be entered again, and an error leaves it closed."""
    domain = Domain()
    nvtx = ModuleType("nvtx")
    nvtx.get_domain = {"pagedkv": domain}.__getitem__
    monkeypatch.setitem(sys.modules, "nvtx", nvtx)

    span = nvtx_range("step")
    with span:
        pass
    with pytest.raises(ValueError, match="inside"), span:
        raise ValueError("inside")

    assert domain.told == ["attributes", "push step", "pop", "push step", "pop"]


@pytest.mark.parametrize("module", [None, ModuleType("nvtx")])
def test_without_a_working_library_there_is_no_range(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | None
) -> None:
    """A library that is missing or broken costs the ranges and nothing else."""
    monkeypatch.setitem(sys.modules, "nvtx", module)

    with nvtx_range("step"):
        pass

"""Words that several commands share."""

from pytest_pagedkv.baselines.commands.snapshot import Place

__all__ = ["counted", "title"]


def counted(number: int, word: str) -> str:
    """A number with its noun: "1 counter", "2 counters"."""
    return f"{number} {word}{'s' * (number != 1)}"


def title(place: Place) -> str:
    """A benchmark's name, with the environment where it matters."""
    return place.key if place.kind == "counters" else f"{place.key} ({place.environment})"

"""Words that several forms of output share."""

from pytest_pagedkv.baselines.commands.snapshot import Place
from pytest_pagedkv.baselines.compare import Difference, Verdict

__all__ = ["counted", "sides", "title"]


def counted(number: int, word: str) -> str:
    """A number with its noun: "1 counter", "2 counters"."""
    return f"{number} {word}{'s' * (number != 1)}"


def title(place: Place) -> str:
    """A benchmark's name, with what it is about unless that is counters."""
    about = " ".join(part for part in (place.kind, place.environment) if part)
    return place.key if place.kind == "counters" else f"{place.key} ({about})"


def sides(difference: Difference) -> tuple[str, str]:
    """A counter before and after; an event counter that never moved is not stored, and reads 0."""
    absent = "absent" if difference.verdict is Verdict.CHANGED else "0"
    before, after = difference.before, difference.after
    return absent if before is None else str(before), absent if after is None else str(after)

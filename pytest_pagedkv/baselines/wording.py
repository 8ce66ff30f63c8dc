"""Words that commands and reports share."""

__all__ = ["counted"]


def counted(number: int, word: str) -> str:
    """A number with its noun: "1 counter", "2 counters"."""
    return f"{number} {word}{'s' * (number != 1)}"

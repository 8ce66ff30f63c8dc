"""What was compared with what, for reports."""

from dataclasses import dataclass

__all__ = ["Against"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A comparison of two trees.

    Attributes:
        base: the base's name, such as "origin/main@abc1234".
        head: the name of what was tested.
        rounds: rounds of a pair of processes.
        confirm_pairs: pairs that judge a suspicion.
        seconds: how long it all took.
        is_selftest: both are the same tree.
    """

    base: str
    head: str
    rounds: int
    confirm_pairs: int
    seconds: float
    is_selftest: bool

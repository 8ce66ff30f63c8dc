"""How many programs the tests of the engine make up."""

from hypothesis import settings

__all__ = ["examples"]

_THOROUGH = 2_000


def examples(number: int) -> int:
    """So many in the nightly run (`--hypothesis-profile=pagedkv-ci` or more), and half as many otherwise."""
    return number if settings().max_examples >= _THOROUGH else number // 2

"""Hypothesis profiles: how much a run looks for. Registered when asked for, and never loaded by us."""

from hypothesis import settings

__all__ = ["exhaustive_depth", "register"]

_EXAMPLES = {"pagedkv-dev": 400, "pagedkv-ci": 2_000, "pagedkv-nightly": 25_000}
_DEPTH, _DEPTH_FROM_CI_ON = 4, 5


def register() -> None:
    """Make the profiles known, for `--hypothesis-profile=pagedkv-ci`."""
    for name, examples in _EXAMPLES.items():
        settings.register_profile(name, max_examples=examples, stateful_step_count=50, deadline=None)


def exhaustive_depth() -> int:
    """Calls in the programs of the bounded exhaustive run, by how thorough the loaded profile is."""
    return _DEPTH_FROM_CI_ON if settings().max_examples >= _EXAMPLES["pagedkv-ci"] else _DEPTH

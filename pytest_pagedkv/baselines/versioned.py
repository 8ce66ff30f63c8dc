"""Counters that belong to a minor version of Python: their names end in it, such as "python_calls_py311"."""

import re
import sys
from collections.abc import Mapping

__all__ = ["comparable", "is_versioned", "kept", "versioned"]

_VERSIONED = re.compile(r"^(.+)_py(\d{2,})$")
_HERE = f"{sys.version_info.major}{sys.version_info.minor}"


def versioned(name: str) -> str:
    """The name of a counter as this version of Python counts it."""
    return f"{name}_py{_HERE}"


def is_versioned(name: str) -> bool:
    """The counter belongs to a version of Python, whichever."""
    return _VERSIONED.match(name) is not None


def comparable(before: Mapping[str, int], after: Mapping[str, int], python: str = _HERE) -> dict[str, int]:
    """What is stored, as far as one version of Python can tell.

    Other versions' counters are left out. One that is stored of another version and not of this one cannot be
    compared, and reads as it was counted now.

    Args:
        before: the stored counters.
        after: those of a run.
        python: the version that the run had, such as "311"; by default this one.
    """
    foreign = kept(before, python)
    elsewhere = {found[1] for name in foreign if (found := _VERSIONED.match(name))}
    here = {name: count for name, count in before.items() if name not in foreign}
    unknown = {f"{name}_py{python}" for name in elsewhere} & (after.keys() - here.keys())
    return here | {name: after[name] for name in unknown}


def kept(before: Mapping[str, int], python: str = _HERE) -> dict[str, int]:
    """The stored counters of other versions, which an update of this one leaves as they are."""
    return {name: count for name, count in before.items() if _is_foreign(name, python)}


def _is_foreign(name: str, python: str) -> bool:
    found = _VERSIONED.match(name)
    return found is not None and found[2] != python

"""A strict reader of Prometheus' text format, version 0.0.4."""

import re
from typing import NamedTuple

__all__ = ["Family", "read_metrics"]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r"NaN|[+-]Inf|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? ({_VALUE})")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')
_KINDS = {"counter", "gauge", "summary", "histogram", "untyped"}

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """Samples of one name, by the whole name and labels."""

    kind: str
    about: str
    samples: dict[tuple[str, Labels], float]


def read_metrics(text: str) -> dict[str, Family]:
    """All families.

    Raises:
        ValueError: a line is not as the format wants it.
    """
    if not text.endswith("\n"):
        raise ValueError("the last line does not end")
    families: dict[str, Family] = {}
    helped = current = ""
    for line in text.splitlines():
        words = line.split(" ", 3)
        if line.startswith("# HELP "):
            helped, about = words[2], words[3]
        elif line.startswith("# TYPE "):
            current = words[2]
            if current != helped or current in families or words[3] not in _KINDS:
                raise ValueError(f"{line!r} is out of place")
            families[current] = Family(words[3], about, {})
        else:
            _add_sample(families[current], current, line)
    return families


def _add_sample(family: Family, name: str, line: str) -> None:
    if (found := _SAMPLE.fullmatch(line)) is None:
        raise ValueError(f"{line!r} is no sample")
    whole, inner, value = found.groups()
    labels = _labels(inner or "")
    suffixes = ("", "_sum", "_count") if family.kind == "summary" else ("",)
    if whole not in [name + suffix for suffix in suffixes] or (whole, labels) in family.samples:
        raise ValueError(f"{line!r} does not belong to {name}")
    if family.kind == "counter" and (not name.endswith("_total") or float(value) < 0):
        raise ValueError(f"{line!r} is no counter")
    if family.kind == "summary" and whole == name and [each for each, _ in labels] != ["quantile"]:
        raise ValueError(f"{line!r} has no quantile")
    family.samples[whole, labels] = float(value)


def _labels(inner: str) -> Labels:
    labels, at = [], 0
    while at < len(inner):
        if (found := _LABEL.match(inner, at)) is None:
            raise ValueError(f"{inner!r} are no labels")
        labels.append((found[1], re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[2])))
        at = found.end()
    return tuple(labels)

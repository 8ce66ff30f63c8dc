"""Records of runs: detectors have looked at their steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pagedkv.doctor.given import Unreadable
from pagedkv.errors import RecordError
from pagedkv.pitfalls.finding import Finding, Source
from pagedkv.recording import record_from_plain

__all__ = ["is_record", "judge_record"]

_SCHEMA = "pagedkv-engine-run/"


def is_record(plain: Mapping[str, Any]) -> bool:
    """Whether these values are the record of a run, of any version."""
    return str(plain.get("schema", "")).startswith(_SCHEMA)


def judge_record(plain: Mapping[str, Any], file: str) -> list[Finding]:
    """What a record says of the whole run, and of stretches of it.

    Raises:
        Unreadable: it is damaged, or of another version.
    """
    try:
        record = record_from_plain(plain)
    except RecordError as error:
        raise Unreadable(f"the record of a run, and it cannot be used: {error}") from None
    found = {each.pitfall: _from(each, file, "findings") for each in record.findings}
    for episode in record.timeline:
        where = f"steps {episode.start_step:,} to {episode.stop_step - 1:,} of {record.num_steps:,}"
        found.setdefault(episode.finding.pitfall, _from(episode.finding, file, where))
    return list(found.values())


def _from(finding: Finding, file: str, where: str) -> Finding:
    return replace(finding, sources=(Source(file, 0, where), *finding.sources))

"""Snapshots in files."""

import json
from pathlib import Path
from typing import Any

from pagedkv.errors import SnapshotError
from pagedkv.live.protocol import MAX_REPLY_BYTES, SCHEMA_VERSION

__all__ = ["read_snapshot", "require_snapshot"]

_START = 64


def read_snapshot(path: Path) -> dict[str, Any]:
    """A snapshot that was written as JSON: by `pagedkv inspect --json`, or `json.dump(engine.snapshot())`.

    Raises:
        SnapshotError: it cannot be read, is not JSON, broke off, or is no snapshot of this version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_REPLY_BYTES + 1)
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_REPLY_BYTES:
        raise SnapshotError(f"{path}: is larger than {MAX_REPLY_BYTES} bytes, and no snapshot is")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"{path}: {_fault(data, error)}") from error
    return require_snapshot(values, f"{path}: the file")


def require_snapshot(values: object, what: str) -> dict[str, Any]:
    """Check that these values are a snapshot of this version.

    Raises:
        SnapshotError: they are not.
    """
    if not isinstance(values, dict) or "schema_version" not in values:
        raise SnapshotError(f"{what} is JSON, but no snapshot of an engine: it has no schema_version")
    if (version := values["schema_version"]) != SCHEMA_VERSION:
        raise SnapshotError(
            f"{what} is a snapshot of schema version {version!r:.20}; this command reads {SCHEMA_VERSION}: "
            "use the pagedkv that wrote it"
        )
    return values


def _fault(data: bytes, error: Exception) -> str:
    if not data.strip():
        return "is empty"
    if data.lstrip()[:1] == b"{" and isinstance(error, json.JSONDecodeError) and _is_cut(error):
        return f"is JSON that breaks off after {len(data)} bytes: half a file"
    return f"is not JSON, and so no snapshot: it begins with {data[:_START]!r:.40}"


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the fault is the end of the text, or the string that it ends in."""
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")

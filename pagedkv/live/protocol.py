"""What goes over the socket of an engine: one request, one reply, and the connection ends.

A request is a line of JSON, and a reply is another, followed by as many bytes of JSON as it says:

    {"pagedkv": 1, "ask": "snapshot", "sections": ["pool", "stats"]}
    {"pagedkv": 1, "pid": 4711, "num_bytes": 812}
    {"schema_version": 1, ...}

or, if the request cannot be answered, `{"pagedkv": 1, "error": "why"}` alone.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pagedkv.errors import PagedKVError

__all__ = [
    "MAX_REPLY_BYTES",
    "MAX_REQUEST_BYTES",
    "PROTOCOL_VERSION",
    "SCHEMA_VERSION",
    "SECTIONS",
    "USUAL_SECTIONS",
    "encode_in_pieces",
    "read_header",
    "read_request",
    "reply_header",
    "request_line",
]

PROTOCOL_VERSION = 1
"""Of requests and replies; both sides say theirs, and nothing is tried with another."""
SCHEMA_VERSION = 1
"""Of snapshots; another number where a field has changed its meaning."""
SECTIONS = (
    "config",
    "pool",
    "usage",
    "offload",
    "requests",
    "scheduler",
    "prefix_cache",
    "history",
    "stats",
    "device_memory",
    "blocks",
    "tables",
)
"""The sections of a snapshot, in its order."""
USUAL_SECTIONS = tuple(name for name in SECTIONS if name not in ("usage", "tables"))
"""Those that a snapshot has that was asked for none."""
MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024

_NAME = "pagedkv"
_AT_ONCE = 64  # elements of a list that are encoded before other threads have their turn
_PAUSE_S = 5e-5


def request_line(sections: Sequence[str] | None) -> bytes:
    """A request for these sections of a snapshot; None for the usual ones."""
    asked: dict[str, Any] = {_NAME: PROTOCOL_VERSION, "ask": "snapshot"}
    if sections is not None:
        asked["sections"] = list(sections)
    return json.dumps(asked).encode() + b"\n"


def read_request(line: bytes) -> tuple[str, ...] | None:
    """The sections that a request asks for; None for the usual ones.

    Raises:
        PagedKVError: it is no request, or one of another version, or asks for what there is not.
    """
    asked = _object(line)
    if asked is None or _NAME not in asked:
        raise PagedKVError("this is no request of pagedkv")
    if asked[_NAME] != PROTOCOL_VERSION:
        raise PagedKVError(
            f"the request is of protocol {asked[_NAME]!r:.20}, the engine speaks {PROTOCOL_VERSION}: use the "
            "same version of pagedkv on both sides"
        )
    if asked.get("ask") != "snapshot":
        raise PagedKVError(f"the request asks for {asked.get('ask')!r:.40}; the engine gives a 'snapshot'")
    sections = asked.get("sections")
    if sections is None:
        return None
    if not isinstance(sections, list) or not all(isinstance(each, str) for each in sections):
        raise PagedKVError(f"sections are {sections!r:.40}; they must be a list of names")
    return tuple(sections)


def read_header(line: bytes) -> int:
    """How many bytes follow the first line of a reply.

    Raises:
        ValueError: no pagedkv engine has sent it.
        PagedKVError: it is of another version, too long, or says why there is no answer.
    """
    header = _object(line)
    if header is None or _NAME not in header:
        raise ValueError
    if header[_NAME] != PROTOCOL_VERSION:
        raise PagedKVError(
            f"the engine speaks protocol {header[_NAME]!r:.20}, this command {PROTOCOL_VERSION}: use the "
            "same version of pagedkv on both sides"
        )
    if "error" in header:
        raise PagedKVError(f"the engine says: {header['error']}")
    num_bytes = header.get("num_bytes")
    if type(num_bytes) is not int or num_bytes < 0:
        raise ValueError
    if num_bytes > MAX_REPLY_BYTES:
        raise PagedKVError(f"the reply is said to be {num_bytes} bytes long; {MAX_REPLY_BYTES} are taken")
    return num_bytes


def reply_header(**values: object) -> bytes:
    """The first line of a reply."""
    return json.dumps({_NAME: PROTOCOL_VERSION, **values}).encode() + b"\n"


def encode_in_pieces(values: Mapping[str, Any]) -> bytes:
    """An object as JSON. The interpreter is left to other threads after each piece of it."""
    return b"".join(_pieces(values))


def _pieces(values: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"{"
    for number, (name, value) in enumerate(values.items()):
        yield f"{', ' if number else ''}{json.dumps(name)}: ".encode()
        if isinstance(value, list) and len(value) > _AT_ONCE:
            yield from _list_pieces(value)
        else:
            yield json.dumps(value).encode()
        time.sleep(_PAUSE_S)
    yield b"}"


def _list_pieces(values: list[Any]) -> Iterator[bytes]:
    yield b"["
    for start in range(0, len(values), _AT_ONCE):
        text = json.dumps(values[start : start + _AT_ONCE])
        yield (", " if start else "").encode() + text[1:-1].encode()
        time.sleep(_PAUSE_S)
    yield b"]"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

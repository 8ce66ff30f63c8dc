"""Coding-agent sessions: one JSON object a line is one session with all its requests.

Session: `block_size` (64 if absent), `hash_id_scope` ("local" if absent: ids mean something only inside the
session; "global": across sessions), `requests`. Request: `t` (s since the session began), `in`, `out`,
`hash_ids` of the prompt's full blocks (some writers count the partly filled last one too), `think_time` (s).

Session k (from 0) begins at 60000 k ms. Requests are ordered by (arrival, session, place in the session).

Source: callanjfox/kv-cache-tester (Apache-2.0), traces of WEKA.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace

from pagedkv.traces.options import ReadOptions
from pagedkv.traces.row import MAX_TOKENS, Row
from pagedkv.traces.trace import Trace, TraceRequest

__all__ = ["read_weka"]

_BLOCK_SIZE = 64
_SESSION_GAP_MS = 60_000
_MAX_LOCAL_ID = 2**32 - 1
_GLOBAL = 1 << 62


def read_weka(rows: Iterable[Row], options: ReadOptions) -> Trace:
    """Read coding-agent sessions.

    Raises:
        TraceFormatError: a session is malformed, or its block size is not that of the others.
    """
    requests: list[TraceRequest] = []
    block_size = options.block_size if options.block_ids else None
    for session, row in enumerate(rows):
        size = row.optional_integer("block_size", 1, MAX_TOKENS) or _BLOCK_SIZE
        if options.block_ids and block_size not in (None, size):
            found = f"expected {block_size}, as --block-size or the sessions before, found {size}"
            raise row.error("block_size", found)
        block_size = size
        requests.extend(_requests(session, row, size, options.block_ids))
    requests.sort(key=lambda r: (r.arrival_ms, r.session_id))  # stable: the place in the session decides last
    ordered = tuple(replace(request, index=index) for index, request in enumerate(requests))
    has_ids = any(request.block_ids is not None for request in ordered)
    return Trace("", "weka", block_size if has_ids else None, ordered)


def _requests(session: int, row: Row, block_size: int, with_ids: bool) -> Iterator[TraceRequest]:
    scope = _scope(session, row)
    items = row.values.get("requests")
    if not isinstance(items, list):
        raise row.unexpected("requests", "a list of requests")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise row.error(f"requests[{place}]", "expected a JSON object")
        inner = Row(row.file, row.line, item, f"requests[{place}].")
        yield _request(session, inner, _ids(inner, block_size, scope) if with_ids else None)


def _scope(session: int, row: Row) -> int:
    """What all ids of a session have in common, as bits above the id itself."""
    scope = row.values.get("hash_id_scope") or "local"
    if scope not in ("local", "global"):
        raise row.unexpected("hash_id_scope", '"local" or "global"')
    return session << 32 if scope == "local" else _GLOBAL


def _request(session: int, row: Row, block_ids: "array[int] | None") -> TraceRequest:
    if row.values.get("type") == "subagent":
        raise row.error("type", "nested sub-agents cannot be replayed; write each as a session of its own")
    since_ms = row.optional_seconds("t")
    if since_ms is None:
        raise row.unexpected("t", "a number of seconds from 0")
    return TraceRequest(
        index=0,
        line=row.line,
        arrival_ms=_SESSION_GAP_MS * session + since_ms,
        num_prompt_tokens=row.integer("in"),
        num_output_tokens=row.integer("out"),
        block_ids=block_ids,
        session_id=session,
        think_ms=row.optional_seconds("think_time"),
    )


def _ids(row: Row, block_size: int, scope: int) -> "array[int] | None":
    ids = row.optional_block_ids("hash_ids", _MAX_LOCAL_ID)
    if ids is None:
        return None
    full, rest = divmod(row.integer("in"), block_size)
    if len(ids) not in (full, full + (rest > 0)):
        raise row.error(
            "hash_ids",
            f"expected {full} ids for {row.values['in']} tokens in blocks of {block_size} "
            f"({full + (rest > 0)} with the partly filled one), found {len(ids)}",
        )
    return array("q", [scope | hash_id for hash_id in ids])

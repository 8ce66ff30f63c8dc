"""Coding-agent sessions."""

import pytest

from pagedkv.errors import TraceFormatError
from pagedkv.traces import read_trace
from tests.traces.conftest import WriteLines


def request(t: float, tokens: int = 130, **more: object) -> dict[str, object]:
    """A request of a session, with the ids of its full blocks."""
    return {"t": t, "type": "n", "in": tokens, "out": 7, "hash_ids": list(range(1, 1 + tokens // 64))} | more


def session(*requests: object, **more: object) -> dict[str, object]:
    """A session."""
    return {"id": "x", "block_size": 64, "hash_id_scope": "local", "requests": list(requests)} | more


def test_order_and_times(write_lines: WriteLines) -> None:
    """Sessions begin a minute apart; requests are sorted by time, then session, then place in it."""
    first = session(
        request(60.0, out=1), request(0.0004, out=2), request(0.0005, out=3), request(0.0015, out=4)
    )
    second = session(request(0.0, out=5), request(0, out=6))
    trace = read_trace(write_lines(first, second))

    assert [(r.index, r.arrival_ms, r.session_id, r.num_output_tokens) for r in trace.requests] == [
        (0, 0, 0, 2),
        (1, 0, 0, 3),  # half a millisecond is rounded to even
        (2, 2, 0, 4),
        (3, 60_000, 0, 1),
        (4, 60_000, 1, 5),
        (5, 60_000, 1, 6),
    ]


def test_ids_are_local_to_the_session(write_lines: WriteLines) -> None:
    """Equal ids of two sessions mean nothing, unless the sessions say that their ids are global."""
    local = read_trace(write_lines(session(request(0)), session(request(0)))).requests
    both = session(request(0), hash_id_scope="global")
    shared = read_trace(write_lines(both, both, session(request(0)))).requests

    assert [list(r.block_ids or ()) for r in local] == [[1, 2], [1 << 32 | 1, 1 << 32 | 2]]
    assert shared[0].block_ids == shared[1].block_ids
    assert not set(shared[0].block_ids or ()) & set(shared[2].block_ids or ())


def test_full_blocks_or_all_blocks(write_lines: WriteLines) -> None:
    """The ids may leave out the partly filled last block, or name it."""
    trace = read_trace(write_lines(session(request(0), request(1, hash_ids=[1, 2, 3]))))

    assert [len(r.block_ids or ()) for r in trace.requests] == [2, 3]


def test_think_time_is_kept(write_lines: WriteLines) -> None:
    """Think time is there for closed-loop replay where the trace has it."""
    trace = read_trace(write_lines(session(request(0), request(1, think_time=2.5))))

    assert [r.think_ms for r in trace.requests] == [None, 2500]


def test_ids_can_be_missing_or_left_alone(write_lines: WriteLines) -> None:
    """Without ids a session still has lengths and times."""
    path = write_lines(session(request(0, hash_ids=None), request(0, hash_ids=[1, 2, 3, 4])))

    assert {r.block_ids for r in read_trace(path, block_size=16, block_ids=False).requests} == {None}
    assert read_trace(write_lines(session(request(0, hash_ids=None)))).block_size is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            session(request(0, hash_ids=[1])),
            r"requests\[0\]\.hash_ids: expected 2 ids for 130 tokens in blocks of 64",
        ),
        (session(request(0, hash_ids=[1, 1])), r"requests\[0\]\.hash_ids\[1\]: .*found 1 again"),
        (
            session(request(0), request(0, hash_ids=[1, 2**32])),
            r"requests\[1\]\.hash_ids\[1\]: expected an integer",
        ),
        (session(request(0), {"t": 0, "in": 5}), r"requests\[1\]\.out: expected an integer .* is missing"),
        (session({"in": 5, "out": 1}), r"requests\[0\]\.t: expected a number of seconds .* is missing"),
        (session(request(-1)), r"requests\[0\]\.t: expected a number of seconds"),
        (session(5), r"requests\[0\]: expected a JSON object"),
        (session(request(0, type="subagent")), r"requests\[0\]\.type: nested sub-agents"),
        (session(hash_id_scope="here"), 'hash_id_scope: expected "local" or "global", found \'here\''),
        (session(hash_id_scope=["local"]), "hash_id_scope: expected"),
        (session(request(0), block_size=16), "block_size: expected 64, .*found 16"),
        (session(block_size=0), "block_size: expected an integer from 1"),
        ({"requests": {}}, "requests: expected a list of requests"),
    ],
)
def test_wrong_values_are_named(write_lines: WriteLines, content: object, message: str) -> None:
    """What is wrong inside a session is named with its place in it."""
    with pytest.raises(TraceFormatError, match=rf":2: {message}"):
        read_trace(write_lines(session(request(0)), content))


def test_block_size_cannot_be_changed(write_lines: WriteLines) -> None:
    """The sessions say what their ids stand for; another size is refused."""
    with pytest.raises(TraceFormatError, match=r":1: block_size: expected 16, as --block-size .*, found 64"):
        read_trace(write_lines(session(request(0))), block_size=16)

"""What a server says to clients, good and bad."""

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from pagedkv.errors import EngineUnreachable, PagedKVError, SnapshotError
from pagedkv.live import ask
from pagedkv.live.protocol import MAX_REQUEST_BYTES, encode_in_pieces, request_line
from tests.live.talking import answering, made_up, said, serving


def test_a_snapshot_comes_over_the_socket(folder: Path) -> None:
    """With the sections that were asked for, or without any."""
    with serving(folder / "s"):
        assert ask(folder / "s") == {"schema_version": 1, "asked": None}
        assert ask(folder / "s", ["pool", "stats"])["asked"] == ["pool", "stats"]


def test_a_large_snapshot_comes_whole(folder: Path) -> None:
    """Also if it is much more than a socket takes at once."""
    rows = [{"number": number, "text": "x" * 100} for number in range(50_000)]
    with serving(folder / "s", lambda _: made_up(None) | {"rows": rows}):
        assert ask(folder / "s")["rows"] == rows


@pytest.mark.parametrize(
    ("request_bytes", "told"),
    [
        (b"GET / HTTP/1.1\n", "no request of pagedkv"),
        (b"\xff\xfe\x00\n", "no request of pagedkv"),
        (b"[1]\n", "no request of pagedkv"),
        (b'{"pagedkv": 2, "ask": "snapshot"}\n', "protocol 2, the engine speaks 1"),
        (b'{"pagedkv": 1, "ask": "shutdown"}\n', "asks for 'shutdown'"),
        (b'{"pagedkv": 1, "ask": "snapshot", "sections": 3}\n', "must be a list of names"),
        (b"x" * (MAX_REQUEST_BYTES + 1), "at most 65536 bytes"),
        (b"x" * (2 * MAX_REQUEST_BYTES) + b"\n", "at most 65536 bytes"),
    ],
)
def test_wrong_requests_are_told_so(folder: Path, request_bytes: bytes, told: str) -> None:
    """In one line, and the server goes on."""
    with serving(folder / "s"):
        answer = json.loads(said(folder / "s", request_bytes))
        assert told in answer["error"]
        assert ask(folder / "s")["schema_version"] == 1


def test_what_a_snapshot_raises_is_told(folder: Path) -> None:
    """To whoever asked."""

    def broken(_sections: object) -> dict[str, object]:
        raise ZeroDivisionError("by zero")

    with serving(folder / "s", broken), pytest.raises(PagedKVError, match="ZeroDivisionError: by zero"):
        ask(folder / "s")


def test_half_requests_and_deaf_clients_hold_up_nobody(folder: Path) -> None:
    """Those who ask properly are answered beside them."""
    big = made_up(None) | {"text": "x" * 10_000_000}
    with serving(folder / "s", lambda _: big):
        idle = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for number, connection in enumerate(idle):
            connection.connect(os.fspath(folder / "s"))
            connection.sendall([b"", b'{"pagedkv"', request_line(None)][number])
        for _ in range(3):
            assert len(ask(folder / "s")["text"]) == 10_000_000
        for connection in idle:
            connection.close()


def test_there_is_room_for_few_clients(folder: Path) -> None:
    """The others are told to come again, and can when somebody has gone."""
    with serving(folder / "s"):
        idle = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for connection in idle:
            connection.connect(os.fspath(folder / "s"))
        assert b"8 others are being answered" in said(folder / "s", request_line(None))
        for connection in idle:
            connection.close()
        assert ask(folder / "s")["schema_version"] == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"220 mail.example ESMTP\r\n", "not a pagedkv engine"),
        (b"", "not a pagedkv engine"),
        (b'{"pagedkv": 9, "num_bytes": 2}\n{}', "speaks protocol 9, this command 1"),
        (b'{"pagedkv": 1, "num_bytes": 100}\n{"a": ', "broke off after 6 of 100 bytes"),
        (b'{"pagedkv": 1, "num_bytes": -1}\n', "not a pagedkv engine"),
        (b'{"pagedkv": 1, "num_bytes": 99999999999}\n', "67108864 are taken"),
        (b'{"pagedkv": 1, "num_bytes": 3}\nabc', "is not JSON"),
        (b'{"pagedkv": 1, "num_bytes": 2}\n{}', "no snapshot of an engine"),
        (b'{"pagedkv": 1, "num_bytes": 21}\n{"schema_version": 7}', "schema version 7; this command reads 1"),
        (b'{"pagedkv": 1, "error": "busy"}\n', "the engine says: busy"),
    ],
)
def test_what_is_no_answer_is_said_plainly(folder: Path, reply: bytes, told: str) -> None:
    """Another program, another version, half an answer."""
    with answering(folder / "s", reply), pytest.raises(PagedKVError, match=told) as caught:
        ask(folder / "s")
    assert "\n" not in str(caught.value)


def test_who_does_not_answer_is_not_waited_for(folder: Path) -> None:
    """The client gives up."""
    with (
        answering(folder / "s", b'{"pagedkv": 1, "num_', stays=True),
        pytest.raises(EngineUnreachable, match="no answer within"),
    ):
        ask(folder / "s", timeout_s=0.1)


def test_json_in_pieces_is_the_same_json() -> None:
    """Lists are cut, and nothing is lost at the cuts."""
    values = {"a": list(range(1000)), "b": [], "c": {"d": [1] * 65}, "e": [{"f": None}] * 64, "g": "\n"}

    assert json.loads(encode_in_pieces(values)) == values
    assert json.loads(encode_in_pieces({})) == {}


def test_a_server_ends_its_thread(folder: Path) -> None:
    """And its socket with it; closing twice is as once."""
    before = threading.active_count()
    with serving(folder / "s") as server:
        assert threading.active_count() == before + 1
    server.close()

    assert threading.active_count() == before
    assert not (folder / "s").exists()


def test_snapshots_of_another_schema_are_snapshot_errors(folder: Path) -> None:
    """So that callers can tell them from engines that are gone."""
    with serving(folder / "s", lambda _: {"schema_version": 2}), pytest.raises(SnapshotError):
        ask(folder / "s")

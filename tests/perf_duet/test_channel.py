"""The line protocol: messages arrive whole, and everything else is an error with a name."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pagedkv.perf.duet.channel import Channel, ChannelClosedError, RubbishError, SilenceError

messages = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.integers()))


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a channel."""
    there, back = os.pipe(), os.pipe()
    both = Channel(back[0], there[1]), Channel(there[0], back[1])
    yield both
    for channel in both:
        channel.close()


@given(st.lists(messages, max_size=5))
def test_messages_arrive_in_order(sent: list[dict[str, object]]) -> None:
    """Whatever text is in them, newlines too."""
    there, back = os.pipe(), os.pipe()
    near, far = Channel(back[0], there[1]), Channel(there[0], back[1])
    for message in sent:
        near.send(message)
    assert [far.receive(1.0) for _ in sent] == sent
    near.close()
    far.close()


def test_silence(ends: tuple[Channel, Channel]) -> None:
    """Nothing in time, or half a line."""
    near, far = ends
    with pytest.raises(SilenceError):
        far.receive(0.01)
    os.write(near._write_fd, b'{"is":')
    with pytest.raises(SilenceError):
        far.receive(0.01)


@pytest.mark.parametrize("line", [b"rubbish\n", b"[1, 2]\n", b"\xff\xfe\n", b"\n"])
def test_rubbish(ends: tuple[Channel, Channel], line: bytes) -> None:
    """What is no JSON object; the next message is read all the same."""
    near, far = ends
    os.write(near._write_fd, line)
    near.send({"is": "open"})
    with pytest.raises(RubbishError):
        far.receive(1.0)
    assert far.receive(1.0) == {"is": "open"}


def test_the_other_side_is_gone() -> None:
    """Reading and writing say so."""
    there, back = os.pipe(), os.pipe()
    near, far = Channel(back[0], there[1]), Channel(there[0], back[1])
    far.close()
    with pytest.raises(ChannelClosedError):
        near.receive(1.0)
    with pytest.raises(ChannelClosedError):
        near.send({"do": "end"})
    near.close()


def test_other_processes_do_not_inherit_the_pipes(ends: tuple[Channel, Channel]) -> None:
    """Or the end of one would not be noticed while another lives."""
    for channel in ends:
        assert not os.get_inheritable(channel._read_fd)
        assert not os.get_inheritable(channel._write_fd)

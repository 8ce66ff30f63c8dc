"""The error tree: messages, numbers, and what crosses a process boundary."""

import pickle

import pytest

from pagedkv import errors
from pagedkv.errors import InvalidLogits, OutOfBlocks, PagedKVError, TraceFormatError, UnknownSequence


@pytest.mark.parametrize(
    "error",
    [
        OutOfBlocks(3, 1, 1),
        OutOfBlocks(9, 2, 0, "never"),
        TraceFormatError("t.csv", 4, "a number", "x"),
        InvalidLogits([3, "x"], "NaN"),
    ],
)
def test_errors_cross_process_boundaries(error: PagedKVError) -> None:
    """An error that a worker raises arrives whole."""
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))


def test_out_of_blocks_carries_the_numbers() -> None:
    """What was asked, what there is, what to do."""
    error = OutOfBlocks(needed=5, free=1, evictable=2)
    assert (error.needed, error.free, error.evictable) == (5, 1, 2)
    assert str(error).startswith("5 blocks needed, 3 obtainable (1 free, 2 evictable): release or preempt")


def test_messages_are_not_quoted() -> None:
    """An UnknownSequence is a KeyError, whose message would print as a repr."""
    assert str(UnknownSequence("sequence 7 is not live")) == "sequence 7 is not live"


def test_the_tree_is_drawn_as_it_is() -> None:
    """Every error of the module stands in the picture at its top, under PagedKVError."""
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), PagedKVError)
        assert name in errors.__doc__

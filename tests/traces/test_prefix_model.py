"""Block ids under an assumption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.traces import PrefixModel, Trace, TraceRequest, read_trace
from tests.traces.conftest import WriteLines


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 30), st.integers(1, 6))
def test_shared_blocks_are_those_inside_the_shared_tokens(
    lengths: list[int], num_shared: int, block_size: int
) -> None:
    """Blocks that lie wholly inside the shared tokens have shared ids; every other block has its own."""
    requests = tuple(TraceRequest(i, i + 1, None, length, 1) for i, length in enumerate(lengths))
    trace = PrefixModel(num_shared).applied_to(Trace("", "azure", None, requests), block_size)

    own: list[int] = []
    for request in trace.requests:
        ids = list(request.block_ids or ())
        num_inside = min(num_shared, request.num_prompt_tokens) // block_size
        assert ids[:num_inside] == list(range(num_inside))
        assert len(ids) == -(-request.num_prompt_tokens // block_size)
        own += ids[num_inside:]
    assert len(set(own)) == len(own)
    assert not set(own) & set(range(num_shared // block_size))


def test_reading_applies_it(write_lines: WriteLines) -> None:
    """A trace without ids gets them while it is read, for blocks of 16 tokens unless chosen otherwise."""
    path = write_lines({"input_length": 40, "output_length": 1}, {"input_length": 40, "output_length": 1})

    assert read_trace(path).block_size is None
    trace = read_trace(path, prefix_model="shared:20")
    assert trace.block_size == 16
    assert [list(r.block_ids or ()) for r in trace.requests] == [[0, 1, 2], [0, 3, 4]]
    assert read_trace(path, prefix_model=PrefixModel(), block_size=8).block_size == 8
    assert read_trace(path, prefix_model="none", block_ids=False).block_size is None


@pytest.mark.parametrize(
    "text", ["", "some", "shared", "shared:", "shared:-1", "shared:1.5", "shared:٣", "none:1"]
)
def test_unknown_models_are_refused(text: str) -> None:
    """What is neither none nor shared:N is a configuration error."""
    with pytest.raises(ConfigError, match="must be none or shared:N"):
        PrefixModel.parse(text)


def test_models_that_cannot_be(write_lines: WriteLines) -> None:
    """A model does not replace ids that are there, and does not share fewer than no tokens."""
    path = write_lines({"input_length": 40, "output_length": 1, "hash_ids": [1]})

    with pytest.raises(ConfigError, match="has block ids of its own"):
        read_trace(path, prefix_model="none")
    with pytest.raises(ConfigError, match="must not be negative"):
        PrefixModel(-1)

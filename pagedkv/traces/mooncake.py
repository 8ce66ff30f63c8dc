"""Two jsonl formats with ready block ids: Mooncake, and Qwen-Bailian with chat ids.

Mooncake: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` of 512-token blocks. Rows without
`timestamp` or `hash_ids` exist. Our generator writes the same, with more keys: `block_size` where it is not
512, `session_id`, `think_ms`, `n` (samples) and `beam_width`.

Qwen-Bailian: the same keys, but `timestamp` in seconds and 16-token blocks, with `chat_id`, `parent_chat_id`
(-1 for none), `type` and `turn`.

Source: Mooncake (FAST'25), FAST25-release/traces; alibaba-edu/qwen-bailian-usagetraces-anon.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedkv.traces.options import ReadOptions
from pagedkv.traces.row import MAX_TOKENS, Row
from pagedkv.traces.trace import Trace, TraceRequest

if TYPE_CHECKING:
    from array import array

__all__ = ["MOONCAKE_BLOCK_SIZE", "read_mooncake", "read_qwen"]

MOONCAKE_BLOCK_SIZE = 512
_QWEN_BLOCK_SIZE = 16

Session = int | str | None


def read_mooncake(rows: Iterable[Row], options: ReadOptions) -> Trace:
    """Read a Mooncake trace.

    Raises:
        TraceFormatError: a row is malformed, or its number of ids does not fit its length and block size.
    """
    return _read("mooncake", rows, _BlockIds(MOONCAKE_BLOCK_SIZE, options), _milliseconds, _session)


def read_qwen(rows: Iterable[Row], options: ReadOptions) -> Trace:
    """Read a Qwen-Bailian trace.

    Raises:
        TraceFormatError: a row is malformed, or its number of ids does not fit its length and block size.
    """
    ids = _BlockIds(_QWEN_BLOCK_SIZE, options)
    return _read("qwen", rows, ids, lambda row: row.optional_seconds("timestamp"), _Chats().session)


def _read(
    name: str,
    rows: Iterable[Row],
    ids: "_BlockIds",
    arrival_ms: Callable[[Row], int | None],
    session: Callable[[Row], Session],
) -> Trace:
    requests = tuple(
        TraceRequest(
            index=index,
            line=row.line,
            arrival_ms=arrival_ms(row),
            num_prompt_tokens=(num_tokens := row.integer("input_length")),
            num_output_tokens=row.integer("output_length"),
            block_ids=ids.of(row, num_tokens),
            session_id=session(row),
            think_ms=row.optional_integer("think_ms"),
            num_samples=row.optional_integer("n", low=1) or 1,
            beam_width=row.optional_integer("beam_width", low=1) or 1,
        )
        for index, row in enumerate(rows)
    )
    return Trace("", name, ids.block_size, requests)


def _milliseconds(row: Row) -> int | None:
    return row.optional_integer("timestamp")


def _session(row: Row) -> Session:
    return row.optional_label("session_id")


@dataclass(slots=True)
class _BlockIds:
    """Takes the ids of each row, and sees to it that they all stand for blocks of one size.

    Attributes:
        native: tokens in a block where nothing else is said.
        block_size: what the ids so far stand for; None while there were none.
    """

    native: int
    options: ReadOptions
    block_size: int | None = None

    def of(self, row: Row, num_tokens: int) -> "array[int] | None":
        """The block ids of a row with `num_tokens` prompt tokens.

        Raises:
            TraceFormatError: they are no ids, or too many or too few for the tokens.
        """
        ids = row.optional_block_ids("hash_ids") if self.options.block_ids else None
        if ids is None:
            return None
        size = self._size(row)
        if len(ids) != -(-num_tokens // size):
            raise row.error(
                "hash_ids",
                f"expected {-(-num_tokens // size)} ids for input_length {num_tokens} in blocks of {size}, "
                f"found {len(ids)}; give the size of the blocks with --block-size",
            )
        return ids

    def _size(self, row: Row) -> int:
        chosen = self.block_size or self.options.block_size
        own = row.optional_integer("block_size", 1, MAX_TOKENS)
        if own and chosen and own != chosen:
            raise row.error(
                "block_size", f"expected {chosen}, as --block-size or the rows before, found {own}"
            )
        self.block_size = chosen or own or self.native
        return self.block_size


@dataclass(slots=True)
class _Chats:
    """Follows a chat to the first one of its conversation."""

    roots: dict[int | str, int | str] = field(default_factory=dict)

    def session(self, row: Row) -> Session:
        """The `chat_id` of the conversation's first chat that the file has."""
        chat = row.optional_label("chat_id")
        parent = row.optional_label("parent_chat_id")
        if chat is None:
            return None
        root = chat if parent is None else self.roots.get(parent, chat)
        self.roots[chat] = root
        return root

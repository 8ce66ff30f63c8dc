"""The generated tokens of all live sequences, as arrays with a row for each."""

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.request import Request

__all__ = ["TokenTable"]

_FIRST_ROWS = 64
_FIRST_COLUMNS = 64
_STOP_COLUMNS = 8
_NO_TOKEN = np.iinfo(np.int32).min
_NONE = np.empty(0, np.int64)


class TokenTable:
    """What was generated, row by row, so that a step of many sequences is a handful of vector operations.

    Attributes:
        num_outputs: generated tokens. Shape `[num_rows]` (int64).
        num_prompt: prompt tokens. Likewise.
        max_outputs: when to end. Likewise.
        last_ns: when the last token came. Likewise.
    """

    def __init__(self) -> None:
        self._outputs = np.zeros((_FIRST_ROWS, _FIRST_COLUMNS), np.int32)
        self._stops = np.full((_FIRST_ROWS, _STOP_COLUMNS), _NO_TOKEN, np.int32)
        self._many_stops: dict[int, frozenset[int]] = {}  # of the rows that have more than columns
        self._num_with_stops = 0
        self.num_outputs = np.zeros(_FIRST_ROWS, np.int64)
        self.num_prompt = np.zeros(_FIRST_ROWS, np.int64)
        self.max_outputs = np.zeros(_FIRST_ROWS, np.int64)
        self.last_ns = np.zeros(_FIRST_ROWS, np.int64)
        self._spare = list(range(_FIRST_ROWS - 1, -1, -1))
        self._longest = 0  # an upper bound of num_outputs

    def open(self, request: Request) -> int:
        """A row for a new sequence of a request."""
        if not self._spare:
            self._grow_rows()
        row = self._spare.pop()
        self.num_outputs[row] = 0
        self.num_prompt[row] = request.prompt.num_tokens
        self.max_outputs[row] = request.max_tokens
        stops = request.stop_token_ids
        if len(stops):
            self._num_with_stops += 1
            if len(stops) > _STOP_COLUMNS:
                self._many_stops[row] = frozenset(stops)
            else:
                self._stops[row, : len(stops)] = stops
        return row

    def close(self, row: int) -> None:
        """Give a row back."""
        self.num_outputs[row] = 0
        if row in self._many_stops or self._stops[row, 0] != _NO_TOKEN:
            self._num_with_stops -= 1
            self._many_stops.pop(row, None)
            self._stops[row] = _NO_TOKEN
        self._spare.append(row)

    def copy(self, source: int, target: int) -> None:
        """Give a row the tokens of another one."""
        count = int(self.num_outputs[source])
        self._outputs[target, :count] = self._outputs[source, :count]
        self.num_outputs[target] = count
        self.last_ns[target] = self.last_ns[source]

    def output_ids(self, row: int) -> Int32s:
        """The generated tokens of a row, a view. Shape `[num_outputs]` (int32)."""
        return self._outputs[row, : self.num_outputs[row]]

    def last_tokens(self, rows: Int64s) -> Int32s:
        """The token that each of these rows got last. Shape `[len(rows)]` (int32)."""
        return self._outputs[rows, self.num_outputs[rows] - 1]

    def append(self, rows: Int64s, token_ids: Int32s, now_ns: int) -> None:
        """Add a token to each of these distinct rows."""
        counts = self.num_outputs[rows]
        if self._longest >= self._outputs.shape[1]:
            self._longest = int(self.num_outputs.max())
            if self._longest >= self._outputs.shape[1]:
                self._outputs = np.pad(self._outputs, ((0, 0), (0, self._outputs.shape[1])))
        self._outputs[rows, counts] = token_ids
        self.num_outputs[rows] = counts + 1
        self.last_ns[rows] = now_ns
        self._longest += 1

    def replace_last(self, row: int, token_id: int) -> None:
        """Put another token in the place of the last one."""
        self._outputs[row, self.num_outputs[row] - 1] = token_id

    def at_limit(self, rows: Int64s) -> Int64s:
        """Places in `rows` of those that have all the tokens they may have."""
        return np.flatnonzero(self.num_outputs[rows] >= self.max_outputs[rows])

    def at_stop(self, rows: Int64s, token_ids: Int32s) -> Int64s:
        """Places in `rows` of those whose token is one that ends them."""
        if not self._num_with_stops:
            return _NONE
        ends = (self._stops[rows] == token_ids[:, None]).any(1)
        if self._many_stops:
            for place, row in enumerate(rows.tolist()):
                ends[place] |= token_ids[place] in self._many_stops.get(row, ())
        return np.flatnonzero(ends)

    def _grow_rows(self) -> None:
        old = len(self.num_outputs)
        self._outputs = np.pad(self._outputs, ((0, old), (0, 0)))
        self._stops = np.pad(self._stops, ((0, old), (0, 0)), constant_values=_NO_TOKEN)
        for name in ("num_outputs", "num_prompt", "max_outputs", "last_ns"):
            setattr(self, name, np.pad(getattr(self, name), (0, old)))
        self._spare = list(range(2 * old - 1, old - 1, -1))

"""One row of a trace file, with checked access to its columns."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from pagedkv.errors import TraceFormatError

__all__ = ["MAX_TOKENS", "Row"]

MAX_TOKENS = 2**31 - 1
_MAX_INT = 2**63 - 1
_MAX_SECONDS = 10**12


@dataclass(slots=True)
class Row:
    """The values of one row, and where they stand.

    Attributes:
        file: name of the file, as it was given.
        line: 1-based line number.
        values: values by column.
        path: what comes before a column's name in messages, such as "requests[3].".
    """

    file: str
    line: int
    values: Mapping[str, object]
    path: str = ""

    def has(self, column: str) -> bool:
        """Whether the row has a value, other than null, in this column."""
        return self.values.get(column) is not None

    def error(self, column: str, expected: str) -> TraceFormatError:
        """An error about this column, for the caller to raise."""
        return TraceFormatError(self.file, self.line, expected, self.path + column)

    def unexpected(self, column: str, expected: str) -> TraceFormatError:
        """An error that says what was expected and what stands there instead."""
        if column not in self.values:
            return self.error(column, f"expected {expected}, but the column is missing")
        return self.error(column, f"expected {expected}, found {_shown(self.values[column])}")

    def integer(self, column: str, low: int = 0, high: int = MAX_TOKENS) -> int:
        """A JSON integer within `low .. high`.

        Raises:
            TraceFormatError: it is missing, of another type (true and 1.0 too), or out of range.
        """
        value = self.values.get(column)
        if type(value) is int and low <= value <= high:
            return value
        raise self.unexpected(column, f"an integer from {low} to {high}")

    def optional_integer(self, column: str, low: int = 0, high: int = _MAX_INT) -> int | None:
        """As `integer`, but None where the column is missing or null."""
        return self.integer(column, low, high) if self.has(column) else None

    def optional_seconds(self, column: str) -> int | None:
        """A number of seconds, rounded to whole milliseconds; None where it is missing or null.

        Raises:
            TraceFormatError: it is no number, not finite, negative, or absurdly large.
        """
        value = self.values.get(column)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MAX_SECONDS:
            return round(1000 * value)  # not reached with nan, which is neither above 0 nor below
        raise self.unexpected(column, "a number of seconds from 0")

    def optional_label(self, column: str) -> int | str | None:
        """An integer or a string that names something; None where it is missing or null.

        Raises:
            TraceFormatError: it is of another type.
        """
        value = self.values.get(column)
        if value is None or type(value) is int or type(value) is str:
            return value
        raise self.unexpected(column, "an integer or a string")

    def optional_integers(
        self, column: str, high: int = _MAX_INT, typecode: str = "q"
    ) -> "array[int] | None":
        """A list of integers from 0 to `high`, compactly; None where the column is missing or null.

        Raises:
            TraceFormatError: it is no list, or an item is of another type or out of range; names the item.
        """
        value = self.values.get(column)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.unexpected(column, "a list of integers")
        if value and not (set(map(type, value)) == {int} and min(value) >= 0 and max(value) <= high):
            raise self._wrong_item(column, value, high)
        return array(typecode, value)

    def optional_block_ids(self, column: str, high: int = _MAX_INT) -> "array[int] | None":
        """Prefix-chained block ids: as `optional_integers`, and all different.

        Raises:
            TraceFormatError: also if an id occurs twice, which no two prefixes of one prompt can.
        """
        ids = self.optional_integers(column, high)
        if ids is not None and len(set(ids)) < len(ids):
            twice = next(i for i, hash_id in enumerate(ids) if hash_id in ids[:i])
            raise self.error(
                f"{column}[{twice}]", f"expected ids of prefixes, all different, found {ids[twice]} again"
            )
        return ids

    def _wrong_item(self, column: str, items: list[object], high: int) -> TraceFormatError:
        wrong = next(i for i, x in enumerate(items) if type(x) is not int or not 0 <= x <= high)
        found = _shown(items[wrong])
        return self.error(f"{column}[{wrong}]", f"expected an integer from 0 to {high}, found {found}")


def _shown(value: object) -> str:
    """The value as a reader of the file would recognise it, cut to a few words."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    names = {True: "true", False: "false", None: "null"}
    text = names[value] if value is None or isinstance(value, bool) else ascii(value)
    return text if len(text) <= 48 else f"{text[:45]}..."

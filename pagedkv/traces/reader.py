"""`read_trace`: which format is this, and what is in it."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.traces.azure import AZURE_COLUMNS, read_azure
from pagedkv.traces.burstgpt import BURSTGPT_COLUMNS, read_burstgpt
from pagedkv.traces.mooncake import read_mooncake, read_qwen
from pagedkv.traces.options import DEFAULT_OUTPUT_TOKENS, ReadOptions, Tokenizer
from pagedkv.traces.prefix_model import PrefixModel
from pagedkv.traces.row import MAX_TOKENS, Row
from pagedkv.traces.rows import csv_rows, json_rows
from pagedkv.traces.source import read_lines
from pagedkv.traces.tokens import read_prompts, read_tokens
from pagedkv.traces.trace import DEFAULT_BLOCK_SIZE, Trace
from pagedkv.traces.weka import read_weka

__all__ = ["read_trace"]

Reader = Callable[[Iterable[Row], ReadOptions], Trace]

_JSON_FORMATS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset({"requests"}), read_weka),
    (frozenset({"chat_id"}), read_qwen),
    (frozenset({"input_tok_ids", "input_toks"}), read_tokens),
    (frozenset({"input_length", "hash_ids"}), read_mooncake),
    (frozenset({"prompt"}), read_prompts),
)
"""The first entry that has a key in common with the first row decides."""

_CSV_FORMATS: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (AZURE_COLUMNS, read_azure),
    (BURSTGPT_COLUMNS, read_burstgpt),
)
"""The entry that shares most columns with the header decides; further columns are ignored."""


def read_trace(
    path: str | os.PathLike[str],
    *,
    block_size: int | None = None,
    block_ids: bool = True,
    prefix_model: PrefixModel | str | None = None,
    tokenizer: Tokenizer | str | None = None,
    num_output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> Trace:
    """Read a trace of any known format; which one, and whether it is gzip, is told from its content.

    Args:
        path: the file.
        block_size: tokens that one block id stands for. By default what the format says; 16 where the
            ids are derived here, from tokens or by a prefix model.
        block_ids: read, or derive, the block ids. Without them only lengths and times are read, and
            `block_size` means nothing.
        prefix_model: block ids for formats that have none: "none" (all prompts differ from their first
            token on) or "shared:N" (all begin with the same N tokens).
        tokenizer: for formats with text: a function from text to token ids, or a name for transformers.
        num_output_tokens: tokens generated for each row that does not say, in formats where rows may not.

    Raises:
        TraceFormatError: the file is not a trace that can be read; names file, line and column.
        ConfigError: an option cannot work, or a needed one is missing.
    """
    options = ReadOptions(
        block_size=_checked("block_size", block_size, 1),
        block_ids=block_ids,
        tokenizer=tokenizer,
        num_output_tokens=_checked("num_output_tokens", num_output_tokens, 0) or 0,
    )
    model = PrefixModel.parse(prefix_model) if isinstance(prefix_model, str) else prefix_model
    trace = replace(_read(os.fspath(path), options), name=os.fspath(path))
    if model is None or not block_ids:
        return trace
    return model.applied_to(trace, block_size or DEFAULT_BLOCK_SIZE)


def _checked(name: str, value: int | None, low: int) -> int | None:
    if value is None or (type(value) is int and low <= value <= MAX_TOKENS):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be an int from {low} to {MAX_TOKENS}")


def _read(file: str, options: ReadOptions) -> Trace:
    lines = read_lines(file)
    for line, text in lines:
        if text.lstrip().startswith("["):
            raise TraceFormatError(file, line, "expected one JSON object a line, found a JSON array")
        if text.lstrip().startswith("{"):
            return _not_empty(file, _read_json(file, chain([(line, text)], lines), options))
        if not text.isspace():
            return _not_empty(file, _read_csv(file, line, text, lines, options))
    raise TraceFormatError(file, 0, "expected a trace, found an empty file")


def _not_empty(file: str, trace: Trace) -> Trace:
    if trace.requests or trace.num_failed:
        return trace
    raise TraceFormatError(file, 0, f"expected requests, found none ({trace.format} format)")


def _read_json(file: str, lines: Iterator[tuple[int, str]], options: ReadOptions) -> Trace:
    rows = json_rows(file, lines)
    first = next(rows)
    for keys, read in _JSON_FORMATS:
        if keys & first.values.keys():
            return read(chain([first], rows), options)
    known = "; ".join(", ".join(sorted(keys)) for keys, _ in _JSON_FORMATS)
    found = ", ".join(map(ascii, first.values)) or "no keys"
    raise TraceFormatError(file, first.line, f"expected keys of a known format ({known}), found {found:.200}")


def _read_csv(
    file: str, line: int, header: str, lines: Iterator[tuple[int, str]], options: ReadOptions
) -> Trace:
    found = _header(file, line, header)
    columns, read = max(_CSV_FORMATS, key=lambda entry: len(set(entry[0]) & set(found)))
    if missing := [column for column in columns if column not in found]:
        raise TraceFormatError(file, line, _unknown_header(found), missing[0])
    return read(csv_rows(file, found, lines), options)


def _header(file: str, line: int, text: str) -> Sequence[str]:
    try:
        fields = [field.strip() for field in next(csv.reader([text], strict=True))]
    except csv.Error as error:
        raise TraceFormatError(file, line, f"expected a csv header or JSON: {error}") from None
    if len(set(fields)) < len(fields):
        raise TraceFormatError(file, line, f"expected distinct columns, found {', '.join(fields):.200}")
    return fields


def _unknown_header(found: Sequence[str]) -> str:
    known = " or ".join(", ".join(columns) for columns, _ in _CSV_FORMATS)
    return f"expected JSON objects, or a csv header with {known}; found {', '.join(map(ascii, found)):.200}"

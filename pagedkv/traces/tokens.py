"""Two jsonl formats with the prompt itself: ready token ids, or text for a tokenizer.

Token ids: `input_tok_ids`, as LLMServingSim's workloads have them, with `input_toks`, `output_toks` and
`arrival_time_ns`. Text: `prompt`, as vLLM's custom dataset has it; it is tokenized as it stands, without a
chat template. Either may say how much is generated (see `_OUTPUT_COLUMNS`; else `--output-tokens`) and when
it arrives (`arrival_time_ns`, or `timestamp` in ms).

Block ids are derived from the tokens exactly, not by a hash: two blocks get the same id if and only if they
and all blocks before them hold the same tokens.

Source: casys-kaist/LLMServingSim, workloads; vLLM, benchmarks/datasets/custom.py.
"""

from array import array
from collections.abc import Callable, Iterable
from importlib import import_module

from pagedkv.errors import ConfigError
from pagedkv.traces.options import ReadOptions, Tokenizer
from pagedkv.traces.row import MAX_TOKENS, Row
from pagedkv.traces.trace import DEFAULT_BLOCK_SIZE, Trace, TraceRequest

__all__ = ["PrefixIds", "read_prompts", "read_tokens"]

_OUTPUT_COLUMNS = ("output_toks", "output_tokens", "output_length", "output_len", "max_tokens")
_NS_PER_MS = 10**6


def read_tokens(rows: Iterable[Row], options: ReadOptions) -> Trace:
    """Read requests whose prompts are token ids, or only a number of tokens.

    Raises:
        TraceFormatError: a row is malformed, or its `input_toks` is not the number of its token ids.
    """
    return _read("tokens", rows, options, _token_ids)


def read_prompts(rows: Iterable[Row], options: ReadOptions) -> Trace:
    """Read requests whose prompts are text.

    Raises:
        ConfigError: there is no tokenizer, or the one that is named cannot be loaded.
        TraceFormatError: a row is malformed, or the tokenizer did not return token ids.
    """
    tokenizer = _loaded(options.tokenizer)
    return _read("prompts", rows, options, lambda row: _tokenized(row, tokenizer))


def _read(
    name: str, rows: Iterable[Row], options: ReadOptions, tokens_of: "Callable[[Row], array[int] | None]"
) -> Trace:
    block_size = options.block_size or DEFAULT_BLOCK_SIZE
    ids = PrefixIds(block_size) if options.block_ids else None
    requests = tuple(
        _request(index, row, tokens_of(row), ids, options.num_output_tokens) for index, row in enumerate(rows)
    )
    has_ids = any(request.block_ids is not None for request in requests)
    return Trace("", name, block_size if has_ids else None, requests)


def _request(
    index: int, row: Row, tokens: "array[int] | None", ids: "PrefixIds | None", default_output: int
) -> TraceRequest:
    return TraceRequest(
        index=index,
        line=row.line,
        arrival_ms=_arrival_ms(row),
        num_prompt_tokens=row.integer("input_toks") if tokens is None else len(tokens),
        num_output_tokens=_num_output_tokens(row, default_output),
        block_ids=None if ids is None or tokens is None else ids.of(tokens),
        token_ids=tokens,
        session_id=row.optional_label("session_id"),
    )


class PrefixIds:
    """Gives every block of tokens an id that stands for it and all blocks before it.

    Args:
        block_size: tokens in a block.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._known: dict[tuple[int, bytes], int] = {}

    def of(self, tokens: "array[int]") -> "array[int]":
        """The ids of the blocks of one prompt in order; a partly filled last block has one too."""
        data, step = tokens.tobytes(), self._block_size * tokens.itemsize
        known, ids, parent = self._known, array("q"), -1
        for start in range(0, len(data), step):
            parent = known.setdefault((parent, data[start : start + step]), len(known))
            ids.append(parent)
        return ids


def _token_ids(row: Row) -> "array[int] | None":
    if row.has("sub_requests"):
        raise row.error(
            "sub_requests", "sessions cannot be replayed; write each request on a line of its own"
        )
    tokens = row.optional_integers("input_tok_ids", MAX_TOKENS, "i")
    if tokens is not None and row.has("input_toks") and row.integer("input_toks") != len(tokens):
        raise row.unexpected("input_toks", f"{len(tokens)}, the number of input_tok_ids")
    return tokens


def _tokenized(row: Row, tokenizer: Tokenizer) -> "array[int]":
    prompt = row.values.get("prompt")
    if not isinstance(prompt, str):
        raise row.unexpected("prompt", "a string")
    try:
        return array("i", tokenizer(prompt))
    except (TypeError, OverflowError) as error:
        raise row.error("prompt", f"the tokenizer did not return token ids: {error}") from None


def _num_output_tokens(row: Row, default: int) -> int:
    for column in _OUTPUT_COLUMNS:
        if row.has(column):
            return row.integer(column)
    generated = row.optional_integers("output_tok_ids", MAX_TOKENS, "i")
    return default if generated is None else len(generated)


def _arrival_ms(row: Row) -> int | None:
    nanoseconds = row.optional_integer("arrival_time_ns")
    return row.optional_integer("timestamp") if nanoseconds is None else nanoseconds // _NS_PER_MS


def _loaded(tokenizer: Tokenizer | str | None) -> Tokenizer:
    """The tokenizer itself, from its name if need be.

    Raises:
        ConfigError: there is none, transformers is not installed, or it cannot load the one that is named.
    """
    if tokenizer is None:
        raise ConfigError("a trace of text prompts needs a tokenizer: --tokenizer NAME_OR_PATH")
    if not isinstance(tokenizer, str):
        return tokenizer
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ConfigError(f"--tokenizer {tokenizer} needs transformers: pip install transformers") from error
    try:
        named = transformers.AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--tokenizer {tokenizer} cannot be loaded: {reason}") from error
    return lambda text: named(text)["input_ids"]

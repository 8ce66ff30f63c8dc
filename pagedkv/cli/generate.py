"""`pagedkv generate`: what a model says."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pagedkv.cli.arguments import positive
from pagedkv.cli.output import progress_bar
from pagedkv.errors import ConfigError, PagedKVError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedkv.engine import AnyPrompt, Engine, RequestOutput
    from pagedkv.sampling.params import SamplingParams

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Run a model of Hugging Face transformers over a paged KV cache: prompts in, texts out. A single prompt is
answered token by token, as it comes. docs/engine.md says what the numbers mean."""

_EPILOG = """\
examples:
  pagedkv generate --model DIR --prompt "Once upon a time" --max-tokens 64 --temperature 0
  pagedkv generate --model DIR --prompt-file prompts.txt --stats
  pagedkv generate --model DIR --token-ids 1,2,3 --beams 4 --json
`pagedkv generate PRESET`, which makes a trace, is now `pagedkv workload PRESET`; the older spelling works."""

_BLOCK_SIZE = 16


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv generate`."""
    parser = commands.add_parser(
        "generate",
        help="what a model says",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a folder, or a name on the Hub")
    _add_prompts(parser.add_argument_group("prompts", "any number of them, answered in their order"))
    _add_sampling(parser.add_argument_group("sampling"))
    _add_engine(parser.add_argument_group("engine"))
    parser.add_argument("--stats", action="store_true", help="besides, what the engine measured")
    parser.add_argument(
        "--record", metavar="RUN.json", help="remember the run there, for `pagedkv report RUN.json`"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Load, generate, print.

    Raises:
        ConfigError: no prompt, or settings that cannot work.
        PagedKVError: the model cannot be served, a prompt is refused, or memory ran out.
    """
    if not arguments.prompts:
        raise ConfigError("there is no prompt: give --prompt TEXT, --prompt-file FILE or --token-ids 1,2,3")
    params = _params(arguments)
    try:
        with _engine(arguments) as engine, _printed_once(), _recorded(arguments, engine):
            _answer(arguments, engine, params)
    except MemoryError as error:
        raise PagedKVError(
            f"out of memory: {str(error) or 'none is left'}; choose a smaller --num-blocks or --batch-tokens"
        ) from error
    return 0


def _answer(arguments: argparse.Namespace, engine: "Engine", params: "SamplingParams") -> None:
    from pagedkv.cli.answers import print_answers, print_plain, print_stats, print_stream

    prompts = arguments.prompts
    if arguments.json:
        stats = engine.stats if arguments.stats else None
        print_plain(arguments.model, _generated(engine, prompts, params), stats)
        return
    if len(prompts) == 1 and params.num_sequences == 1:
        with engine.stream(prompts[0], params) as stream:
            print_stream(stream, is_text=engine.tokenizer is not None)
    else:
        print_answers(_generated(engine, prompts, params), is_text=engine.tokenizer is not None)
    if arguments.stats:
        print_stats(engine.stats())


def _recorded(arguments: argparse.Namespace, engine: "Engine") -> AbstractContextManager[object]:
    """Record the run if that is asked for; of several processes, which all do the same, the first does."""
    if arguments.record is None or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return engine.record(arguments.record, mode="generate", model=arguments.model)


@contextmanager
def _printed_once() -> Iterator[None]:
    """Of several processes of a torchrun, which all have the same to say, the first prints."""
    if os.environ.get("RANK", "0") == "0":
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _generated(
    engine: "Engine", prompts: "list[AnyPrompt]", params: "SamplingParams"
) -> "list[RequestOutput]":
    with progress_bar("generating") as progress:
        return engine.generate(prompts, params, progress=progress)


def _engine(arguments: argparse.Namespace) -> "Engine":
    from pagedkv.config import CacheConfig, SchedulerConfig
    from pagedkv.engine import Engine

    cache = None
    if arguments.num_blocks is not None:
        cache = CacheConfig(
            num_blocks=arguments.num_blocks,
            block_size=arguments.block_size or _BLOCK_SIZE,
            prefix_caching=arguments.prefix_caching,
        )
    elif arguments.block_size is not None or not arguments.prefix_caching:
        raise ConfigError("--block-size and --no-prefix-caching need --num-blocks: say how many there are")
    _hide_bars()
    settings = {"max_batch_tokens": arguments.batch_tokens, "max_running": arguments.max_running}
    return Engine.from_pretrained(
        arguments.model,
        cache=cache,
        scheduler=SchedulerConfig(**{name: value for name, value in settings.items() if value is not None}),
        dtype=arguments.dtype,
        device=arguments.device,
        max_model_len=arguments.max_model_len,
    )


def _hide_bars() -> None:
    """Where nobody watches stderr, it is for errors: transformers shows no progress there."""
    if not sys.stderr.isatty() and find_spec("transformers") is not None:
        from transformers.utils import logging

        disable: Callable[[], None] = logging.disable_progress_bar
        disable()


def _params(arguments: argparse.Namespace) -> "SamplingParams":
    from pagedkv.sampling.params import SamplingParams

    names = (
        "max_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "n", "beam_width",
        "length_penalty", "stop", "ignore_eos", "logprobs",
    )  # fmt: skip
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return SamplingParams(**given)


def _add_prompts(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help="a text")
    group.add_argument(
        "--prompt-file", dest="prompts", action="extend", type=_lines, metavar="FILE", help="a text a line"
    )
    group.add_argument(
        "--token-ids", dest="prompts", action="append", type=_token_ids, metavar="1,2,3", help="token ids"
    )


def _add_sampling(group: "argparse._ArgumentGroup") -> None:
    """Options of the same names as the fields of `SamplingParams`, which checks the values."""
    for name, kind, about in (
        ("max-tokens", int, "tokens to generate at most (default: 16)"),
        ("temperature", float, "0 takes the likeliest token (default: 1)"),
        ("top-k", int, "sample from so many likeliest tokens; 0, the default, from all"),
        ("top-p", float, "sample from the likeliest tokens with this probability (default: 1)"),
        ("repetition-penalty", float, "makes tokens that were there less likely (default: 1)"),
        ("seed", int, "makes the output repeat"),
        ("n", int, "samples, or results of a beam search (default: 1)"),
        (
            "length-penalty",
            float,
            "of a beam search: scores are divided by length to this power (default: 1)",
        ),
        ("logprobs", int, "with --json: log-probabilities, and of so many likeliest tokens"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=about)
    group.add_argument("--beams", dest="beam_width", type=int, metavar="N", help="beams of a beam search")
    group.add_argument("--stop", action="append", metavar="TEXT", help="a text that ends the output")
    group.add_argument("--ignore-eos", action="store_true", help="go on behind the model's end tokens")


def _add_engine(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--num-blocks", type=positive, metavar="N", help="blocks of the pool; default: what fits"
    )
    group.add_argument(
        "--block-size", type=positive, metavar="N", help=f"tokens in a block (default: {_BLOCK_SIZE})"
    )
    group.add_argument(
        "--no-prefix-caching", dest="prefix_caching", action="store_false", help="share no prefixes"
    )
    group.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens of a step at most")
    group.add_argument("--max-running", type=positive, metavar="N", help="sequences that run at once at most")
    group.add_argument("--max-model-len", type=positive, metavar="N", help="tokens of a sequence at most")
    group.add_argument("--dtype", default="auto", help="float32, float16, bfloat16; default: as it was saved")
    group.add_argument("--device", help="cpu, cuda, cuda:N; default: the GPU if there is one")


def _lines(path: str) -> list[str]:
    """The lines of a file that have anything on them."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise argparse.ArgumentTypeError(f"{path}: cannot be read: it is not UTF-8") from error
    if found := [line for line in lines if line.strip()]:
        return found
    raise argparse.ArgumentTypeError(f"{path}: there is no prompt in it; one line is one prompt")


def _token_ids(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not token ids, such as 1,2,3") from None

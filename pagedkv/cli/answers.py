"""How `pagedkv generate` prints what a model says."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields

from pagedkv.cli.output import print_json, print_lines, print_table, printable
from pagedkv.engine import CompletionOutput, EngineStats, RequestOutput

__all__ = ["print_answers", "print_plain", "print_stats", "print_stream"]

_LABELS: Mapping[str, str] = {
    "num_finished": "requests",
    "num_steps": "steps",
    "mean_batch_size": "sequences in a step, mean",
    "max_batch_size": "sequences in a step, most",
    "num_prefill_tokens": "prompt tokens computed",
    "num_hit_tokens": "prompt tokens found in the cache",
    "num_generated_tokens": "tokens generated",
    "tokens_per_s": "tokens generated a second",
    "ttft_p50_s": "time to first token, p50 (ms)",
    "ttft_p99_s": "time to first token, p99 (ms)",
    "inter_token_p50_s": "between tokens, p50 (ms)",
    "inter_token_p99_s": "between tokens, p99 (ms)",
    "num_preemptions": "preemptions",
    "num_lost_tokens": "tokens computed again",
    "num_blocks": "blocks",
    "max_blocks_in_use": "blocks in use, most",
    "mean_fragmentation_ratio": "slots in use that hold no token, mean",
}


def print_stream(outputs: Iterable[RequestOutput], *, is_text: bool) -> None:
    """Print a single completion as it comes: its text, or its tokens."""
    separator = ""
    for output in outputs:
        for each in output.outputs:
            if is_text:
                sys.stdout.write(_shown(each.text))
            elif each.token_ids:
                sys.stdout.write(separator + " ".join(map(str, each.token_ids)))
                separator = " "
            sys.stdout.flush()
    sys.stdout.write("\n")


def print_answers(outputs: Iterable[RequestOutput], *, is_text: bool) -> None:
    """Print prompts, and behind each its completions."""
    for output in outputs:
        prompt = output.prompt if output.prompt is not None else _numbers(output.prompt_token_ids)
        print_lines([[("> " + prompt, "bold")]])
        for each in output.outputs:
            mark = f"[{each.index}] " if len(output.outputs) > 1 else ""
            sys.stdout.write(f"{mark}{_shown(each.text) if is_text else _numbers(each.token_ids)}\n")
        sys.stdout.write("\n")


def print_plain(
    model: str, outputs: Sequence[RequestOutput], stats: Callable[[], EngineStats] | None
) -> None:
    """Print everything as one JSON object."""
    plain: dict[str, object] = {"model": model, "requests": [_plain(output) for output in outputs]}
    if stats is not None:
        plain["stats"] = {name: _finite(value) for name, value in asdict(stats()).items()}
    print_json(plain)


def print_stats(stats: EngineStats) -> None:
    """Print the numbers that say the most."""
    shown = {name: getattr(stats, name) for name in _LABELS}
    print_table("engine", [(_LABELS[name], _formatted(name, value)) for name, value in shown.items()])


def _plain(output: RequestOutput) -> dict[str, object]:
    """An output, without completions' log-probabilities where they were not asked for."""
    return {
        "request_id": output.request_id,
        "prompt": output.prompt,
        "prompt_token_ids": output.prompt_token_ids,
        "outputs": [_plain_completion(each) for each in output.outputs],
        "metrics": asdict(output.metrics),
    }


def _plain_completion(completion: CompletionOutput) -> dict[str, object]:
    values = {field.name: getattr(completion, field.name) for field in fields(completion)}
    if completion.logprobs is not None:
        values["logprobs"] = [asdict(each) for each in completion.logprobs]
    return {name: value for name, value in values.items() if value is not None}


def _formatted(name: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "-"
    if name.endswith("_ratio"):
        return f"{value:.2%}"
    return f"{value * 1e3:,.2f}" if not name.endswith("per_s") and name.endswith("_s") else f"{value:,.1f}"


def _finite(value: object) -> object:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(token_ids: Sequence[int]) -> str:
    return ",".join(map(str, token_ids))


def _shown(text: str) -> str:
    """The text, with escapes for what stdout cannot show, and what steers a terminal but lines and tabs."""
    return "".join(each if each in "\n\t" else printable(each) for each in text)

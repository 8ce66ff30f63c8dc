"""The engine on a GPU: greedy output, decode steps beside the roofline, and transformers' `generate_batch`.

    python -m tests.measure.engine_gpu [--batch 64] [--prompt 512] [--steps 100]

A random llama of about 1.2 thousand million parameters in bf16. The floor of a decode step is what it has to
read, weights and KV, over the bandwidth that is measured here. Without a GPU it says so.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, LlamaConfig

from pagedkv import BlockManager, CacheConfig
from pagedkv.bench.limits import measure_limits
from pagedkv.bench.timing import timer_for
from pagedkv.clock import WallClock
from pagedkv.config import SchedulerConfig
from pagedkv.models import LoadedModel, TorchExecutor, load_model
from pagedkv.request import Request, TokenPrompt
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler import Scheduler, StepResult

__all__ = ["Run", "decode_step_s", "equal_prompts", "generate_batch_s", "main", "read_bytes", "saved"]

_BLOCK_SIZE = 16
_NO_ENDS: Mapping[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LARGE: Mapping[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "tie_word_embeddings": True,
}
SMALL: Mapping[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
}


def saved(shape: Mapping[str, Any], dtype: torch.dtype, folder: Path) -> Path:
    """A random model on disk."""
    torch.manual_seed(0)
    config = LlamaConfig(**shape, max_position_embeddings=2048, **_NO_ENDS)
    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    return folder


class Run:
    """Requests of one length that decode together, greedily.

    Args:
        loaded: the model.
        prompts: their tokens.
        max_tokens: to generate, by each.
        cuda_graphs: None for where there is a GPU.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        *,
        cuda_graphs: bool | None,
    ) -> None:
        num_blocks = sum(-(-(len(prompt) + max_tokens) // _BLOCK_SIZE) + 1 for prompt in prompts)
        cache = BlockManager(CacheConfig(num_blocks=num_blocks, block_size=_BLOCK_SIZE))
        self.executor = TorchExecutor(loaded, cache, max_batch=len(prompts), cuda_graphs=cuda_graphs)
        self.scheduler = Scheduler(cache, SchedulerConfig(max_running=len(prompts)), WallClock())
        self.outputs: dict[Any, list[int]] = {}
        params = SamplingParams(temperature=0.0, max_tokens=max_tokens, seed=0)
        for i, tokens in enumerate(prompts):
            request = Request(
                request_id=i, prompt=TokenPrompt(tokens), max_tokens=max_tokens, sampling=params
            )
            self.scheduler.add(request)

    def step(self) -> bool:
        """One step; whether all requests decoded in it."""
        num_requests = len(self.scheduler.requests)
        step = self.scheduler.schedule()
        sampled = self.executor.execute(step)
        for state in self.scheduler.commit(step, StepResult(token_ids=sampled.token_ids)):
            self.outputs[state.request_id] = state.finished[0].output_ids.tolist()
        return len(step.decodes) == num_requests

    def close(self) -> None:
        """Give the pool back."""
        self.executor.close()
        torch.cuda.empty_cache()


def decode_step_s(run: Run, num_steps: int) -> float:
    """Median seconds of a step in which all decode; sampling, which waits for the GPU, included.

    Raises:
        ValueError: a request ended before.
    """
    while not run.step():
        pass
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        run.step()
        times.append(time.perf_counter() - start)
    if run.outputs:
        raise ValueError(
            f"{len(run.outputs)} requests ended while steps of all were timed: ask for more tokens"
        )
    return float(np.median(times))


def read_bytes(loaded: LoadedModel, batch: int, num_tokens: int) -> int:
    """What a decode step reads: all weights once, and the KV of each sequence."""
    return loaded.spec.weight_bytes + batch * num_tokens * loaded.spec.token_bytes


def generate_batch_s(folder: Path, device: str, prompts: Sequence[Sequence[int]], max_tokens: int) -> float:
    """Seconds that transformers' continuous batching takes, the better of two runs."""
    from transformers import GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").to(device)
    settings = GenerationConfig(do_sample=False, max_new_tokens=max_tokens, eos_token_id=-1, pad_token_id=0)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        model.generate_batch([list(each) for each in prompts], generation_config=settings, progress_bar=False)
        times.append(time.perf_counter() - start)
    return min(times)


def equal_prompts(folder: Path, device: str, num_tokens: int) -> tuple[int, int]:
    """Prompts whose greedy output is that of `generate`, and all prompts, in fp32."""
    prompts = _prompts([5, 33, 128, 300, 17, 64, 1, 90], SMALL["vocab_size"])
    loaded = load_model(folder, device=device)
    run = Run(loaded, prompts, num_tokens, cuda_graphs=None)
    while run.scheduler.requests:
        run.step()
    run.close()
    peer = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").to(device)
    same = [
        run.outputs[i] == _generated(peer, prompt, num_tokens, device) for i, prompt in enumerate(prompts)
    ]
    return sum(same), len(same)


def _generated(model: Any, prompt: Sequence[int], num_tokens: int, device: str) -> list[int]:
    ids = torch.tensor([prompt], device=device)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False, pad_token_id=0
    )
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer


def _prompts(lengths: Sequence[int], vocab_size: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(3, vocab_size, length).tolist() for length in lengths]


def _measure(console: Console, options: argparse.Namespace, folder: Path) -> None:
    batch, length, count = options.batch, options.prompt, options.steps
    same, of = equal_prompts(saved(SMALL, torch.float32, folder / "small"), "cuda", 32)
    console.print(f"greedy output equals generate's, fp32: {same} of {of} prompts")
    place = saved(LARGE, torch.bfloat16, folder / "large")
    loaded = load_model(place, device="cuda")
    device = loaded.spec.device
    limits = measure_limits(device, ["bf16"], timer_for(device))
    floor = read_bytes(loaded, batch, length + count // 2) / limits.read_bytes_per_s
    console.print(
        f"floor of a decode step, batch {batch}, {length + count // 2} tokens: {floor * 1e3:.3f} ms"
    )
    prompts = _prompts([length] * batch, LARGE["vocab_size"])
    took = {}
    prefills = -(-batch * length // SchedulerConfig().max_batch_tokens)  # steps before the last one decodes
    for graphs in (False, True):
        run = Run(loaded, prompts, count + 2 * prefills + 8, cuda_graphs=graphs)
        took[graphs] = decode_step_s(run, count)
        has = "with" if run.executor.packed.graphs is not None else "without"
        console.print(
            f"{has} CUDA graphs: {took[graphs] * 1e3:.3f} ms, {floor / took[graphs]:.0%} of roofline"
        )
        run.close()
    run = Run(loaded, prompts, count, cuda_graphs=None)
    start = time.perf_counter()
    while run.scheduler.requests:
        run.step()
    ours = time.perf_counter() - start
    run.close()
    peer = generate_batch_s(place, "cuda", prompts, count)
    console.print(
        f"{batch} requests: {ours:.2f} s, generate_batch {peer:.2f} s, {peer / ours:.1f} times ours"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print lines."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure.engine_gpu")
    parser.add_argument("--batch", type=int, default=64, help="sequences (default: %(default)s)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="decode steps (default: %(default)s)")
    options = parser.parse_args(argv)
    console = Console()
    if not torch.cuda.is_available():
        console.print("there is no GPU here: nothing was measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        _measure(console, options, Path(folder))


if __name__ == "__main__":
    main()

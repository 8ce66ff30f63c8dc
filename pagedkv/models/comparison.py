"""A model compared with itself: over paged KV, and with its own attention."""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.errors import UnsupportedModel
from pagedkv.models import attention
from pagedkv.models.memory import make_kv_store
from pagedkv.models.packed import PackedModel
from pagedkv.models.spec import LoadedModel
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler import Scheduler, StepResult

__all__ = ["require_agreement"]

_log = logging.getLogger("pagedkv")
_LENGTHS = (26, 19, 7)
_NUM_DECODED = 3
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.1}


def require_agreement(loaded: LoadedModel) -> None:
    """Compare the logits behind a few random tokens, for models that no test of ours has compared.

    Prompts of different lengths are computed in chunks, beside each other, and then decode.

    Raises:
        UnsupportedModel: the logits differ by more than the dtype explains.
    """
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(loaded.spec.vocab_size, (n,), generator=generator).tolist() for n in _LENGTHS]
    ours = _over_pages(loaded, texts)
    theirs = _by_itself(loaded, texts)
    error = float((ours - theirs).abs().mean() / theirs.abs().mean())
    allowed, name = _TOLERANCE[loaded.spec.dtype], loaded.spec.architecture
    if not error <= allowed:  # NaN is an error, too
        raise UnsupportedModel(
            f"{name} cannot be served: over paged KV its logits are {error:.2%} off those of its own "
            f"attention, and {allowed:.1%} is allowed ({len(ours)} places in {sum(_LENGTHS)} random tokens)"
        )
    _log.warning(
        "[Models] %s is not among the architectures that were tested; here its logits are %.1e off those of "
        "its own attention, over %d tokens: compare its output before relying on it",
        name,
        error,
        sum(_LENGTHS),
    )


def _over_pages(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits behind all but the last few tokens of each text, and behind each of those."""
    cache = BlockManager(CacheConfig(num_blocks=16, block_size=8, prefix_caching=False))
    store = make_kv_store(loaded.spec, num_blocks=16, block_size=8)
    packed = PackedModel(loaded, cache, store)
    scheduler = Scheduler(cache, SchedulerConfig(max_batch_tokens=20), VirtualClock())
    for i, text in enumerate(texts):
        prompt = TokenPrompt(text[:-_NUM_DECODED])
        scheduler.add(Request(request_id=i, prompt=prompt, max_tokens=_NUM_DECODED + 1))
    found: dict[tuple[int, int], torch.Tensor] = {}
    while scheduler.requests:
        step = scheduler.schedule()
        logits = packed.forward(step)
        next_tokens = []
        for sequence, row in zip(step.sampling(), logits, strict=True):
            number, length = sequence.request.number, sequence.num_tokens
            found[number, length] = row
            next_tokens.append([*texts[number], 0][length])
        scheduler.commit(step, StepResult(token_ids=np.array(next_tokens, np.int32)))
    return torch.stack([found[place] for place in sorted(found)])


def _by_itself(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    model = loaded.model
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            whole = [
                model(torch.tensor([text], device=loaded.spec.device), use_cache=False).logits[0].float()
                for text in texts
            ]
    finally:
        model.set_attn_implementation(attention.NAME)
    return torch.cat([logits[-_NUM_DECODED - 1 :] for logits in whole])

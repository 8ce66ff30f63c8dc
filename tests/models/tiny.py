"""Tiny random models of every architecture that is served, made from configurations and saved to disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

__all__ = ["ARCHITECTURES", "MAX_LEN", "VOCAB_SIZE", "config", "save", "save_tokenizer"]

VOCAB_SIZE = 257
MAX_LEN = 256

_TOKENS: Mapping[str, Any] = {"bos_token_id": None, "eos_token_id": None}
_SHAPE: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": MAX_LEN,
    "pad_token_id": None,
    **_TOKENS,
}
_GROUPED: Mapping[str, Any] = {**_SHAPE, "num_key_value_heads": 2}
_GEMMA: Mapping[str, Any] = {**_GROUPED, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
_OPT: Mapping[str, Any] = {
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": MAX_LEN,
    "word_embed_proj_dim": 64,
    "pad_token_id": 1,
    **_TOKENS,
}
_GPT_OSS: Mapping[str, Any] = {
    **_GROUPED,
    "head_dim": 8,
    "sliding_window": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}

ARCHITECTURES: Mapping[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=16),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=8),
    "phi3": lambda: Phi3Config(**_GROUPED),
    "gpt2": lambda: GPT2Config(
        n_embd=64, n_layer=2, n_head=8, vocab_size=VOCAB_SIZE, n_positions=MAX_LEN, **_TOKENS
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_SHAPE),
    "opt": lambda: OPTConfig(**_OPT),
    "gemma2": lambda: Gemma2Config(**_GEMMA),
    "gemma3": lambda: Gemma3TextConfig(
        **{**_GEMMA, "num_hidden_layers": 4}, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "gpt_oss": lambda: GptOssConfig(**_GPT_OSS),
}
"""By name: a configuration with what is special to it, windows of 8 tokens, groups of 4 query heads."""


def config(name: str, **changes: Any) -> Any:
    """A configuration of an architecture, with some settings changed."""
    made = ARCHITECTURES[name]()
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def save(made: Any, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Save a random model of a configuration; returns the folder.

    Matrices but embeddings are eight times what they would be, and sinks are random: otherwise a model
    repeats one token.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(made)
        for name, parameter in model.named_parameters():
            if "sinks" in name:
                torch.nn.init.normal_(parameter)
            elif parameter.ndim > 1 and "embed" not in name and "wte" not in name:
                parameter.data.mul_(8.0)
    model.to(dtype).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Give a saved model a tokenizer of bytes, one token each, and an end token, 256."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)} | {"<end>": len(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"eos_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)

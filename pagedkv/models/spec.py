"""What a served model is, in the numbers that caches, schedulers and cost models ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pagedkv.kernels import AttentionOptions

__all__ = ["LoadedModel", "ModelSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The shape of a model, on this rank where it is sharded over several.

    Attributes:
        architecture: `model_type` of its configuration.
        num_layers: layers that keep KV.
        num_query_heads: query heads of a layer.
        num_kv_heads: KV heads of a layer.
        head_dim: elements of a head.
        dtype: of keys and values.
        device: where they are computed.
        vocab_size: logits of a token.
        weight_bytes: what its weights take, in bytes.
        num_parameters: numbers among them.
        attention: of each layer, what its attention does.
    """

    architecture: str
    num_layers: int
    num_query_heads: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    vocab_size: int
    weight_bytes: int
    num_parameters: int
    attention: Sequence[AttentionOptions]

    @property
    def token_bytes(self) -> int:
        """What the KV of a token takes in all layers, in bytes."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * int(self.dtype.itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model that can be served.

    Attributes:
        name: the path or name that it was loaded by.
        model: transformers' own, in evaluation mode, with our attention function.
        spec: its shape.
        tokenizer: transformers' own; None if there is none.
        end_token_ids: tokens that end a text.
        max_model_len: tokens of a sequence at most, prompt and generated ones together.
    """

    name: str
    model: Any
    spec: ModelSpec
    tokenizer: Any
    end_token_ids: Sequence[int]
    max_model_len: int

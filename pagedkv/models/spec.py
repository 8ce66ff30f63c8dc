"""What a served model is, in the numbers that caches, schedulers and cost models ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pagedkv.kernels import AttentionOptions

__all__ = ["ModelSpec"]


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
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize

"""The attention function that models call in each layer, and where it passes the call on to."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from pagedkv.errors import UnsupportedModel

__all__ = ["ARGUMENT", "NAME", "Attends", "register"]

NAME = "pagedkv"
"""What the attention function is registered as."""
ARGUMENT = "pagedkv"
"""The argument of a model's forward that comes through to the function: who attends."""


class Attends(Protocol):
    """Who attends, during one forward."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: Mapping[str, object],
    ) -> torch.Tensor:
        """Attend in one layer.

        Args:
            module: the layer's attention module.
            query: `[num_tokens, num_query_heads, head_dim]`, rotated.
            key: `[num_tokens, num_kv_heads, head_dim]`, likewise.
            value: as key.
            settings: what else the model says: scaling, sliding_window, softcap, s_aux, ...

        Returns:
            `[num_tokens, num_query_heads, head_dim]`.
        """


def register() -> None:
    """Make the function known, so that `attn_implementation="pagedkv"` is it.

    There is no mask function of that name, so that models build no mask.
    """
    AttentionInterface.register(NAME, _attention)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """What a model calls: from `[1, heads, num_tokens, head_dim]` to `[1, num_tokens, heads, head_dim]`."""
    attends: Attends | None = settings.get(ARGUMENT)
    if attends is None:
        raise UnsupportedModel(
            f"{type(module).__name__} does not get the arguments that its model was called with"
        )
    if attention_mask is not None:
        raise UnsupportedModel(f"{type(module).__name__} has a mask of its own, which is not served")
    out = attends.attend(module, _packed(query), _packed(key), _packed(value), settings)
    return out.unsqueeze(0), None


def _packed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.squeeze(0).transpose(0, 1)

"""What attention does besides softmax(scale q k) v."""

from dataclasses import dataclass

import torch

from pagedkv.errors import ConfigError

__all__ = ["AttentionOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOptions:
    """Settings of an attention call; a model's layer has the same ones at every step.

    Attributes:
        scale: factor of the scores, `head_dim ** -0.5` in most models.
        sliding_window: tokens that a query sees, itself included; None for all before it.
        soft_cap: scores become `soft_cap * tanh(score / soft_cap)`, before the mask; None for no cap.
        sinks: `[num_query_heads]` (float32) logits that enlarge the softmax's denominator; None for none.
        k_scale: stored keys times this are the keys; 1 unless they are stored in 8 bits.
        v_scale: the same for values.

    Raises:
        ConfigError: a number outside its range.
    """

    scale: float
    sliding_window: int | None = None
    soft_cap: float | None = None
    sinks: torch.Tensor | None = None
    k_scale: float = 1.0
    v_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scale", "soft_cap", "k_scale", "v_scale"):
            value = getattr(self, name)
            if value is None and name == "soft_cap":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value!r}; it must be a positive, finite number")
        window = self.sliding_window
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
            raise ConfigError(f"sliding_window is {window!r}; it must be a positive int, or None")

"""One small forward that tells what a model's attention layers do, whatever its class is called."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from pagedkv.errors import ConfigError, UnsupportedModel
from pagedkv.kernels import AttentionOptions
from pagedkv.models.attention import ARGUMENT
from pagedkv.models.spec import ModelSpec

__all__ = ["probe"]

_NUM_TOKENS = 2
_Shape = tuple[int, int, int, torch.dtype]
_HARMLESS = frozenset({"position_ids", "cache_position", "s_aux"})
"""Tensors among the settings that attention does not need, or takes elsewhere."""


def probe(model: Any) -> ModelSpec:
    """Run two tokens through a model, and note what each of its layers asks for.

    Args:
        model: a causal language model whose attention is `attention.NAME`.

    Returns:
        Its shape.

    Raises:
        UnsupportedModel: it cannot run so, or its layers do what paged attention does not.
    """
    observer = _Observer()
    device = next(model.parameters()).device
    ids = torch.zeros(1, _NUM_TOKENS, dtype=torch.int64, device=device)
    positions = torch.arange(_NUM_TOKENS, device=device)[None]
    _require_arguments(model, "position_ids")
    try:
        with torch.inference_mode():
            output = model(input_ids=ids, position_ids=positions, use_cache=False, **{ARGUMENT: observer})
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise UnsupportedModel(
            f"{type(model).__name__} does not run with an attention function of ours: {error!r}"
        ) from error
    num_layers = observer.require_layers(type(model).__name__, model.config)
    (num_query_heads, num_kv_heads, head_dim, dtype) = observer.shape
    return ModelSpec(
        architecture=model.config.model_type,
        num_layers=num_layers,
        num_query_heads=num_query_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        device=device,
        vocab_size=output.logits.shape[-1],
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        num_parameters=sum(p.numel() for p in model.parameters()),
        attention=[observer.options[i] for i in range(num_layers)],
    )


class _Observer:
    """Who attends in a probe: zeros come out.

    Attributes:
        options: of the layers seen, what their attention does.
        shape: query heads, KV heads, elements of a head, dtype: the same in all layers.
    """

    def __init__(self) -> None:
        self.options: dict[int, AttentionOptions] = {}
        self._shapes: dict[int, _Shape] = {}

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: Mapping[str, object],
    ) -> torch.Tensor:
        """Note what a layer asks for."""
        layer = _layer_index(module)
        if layer in self.options:
            raise UnsupportedModel(f"layer {layer} attends more than once, and has KV for one attention")
        _require_causal(module, settings, layer)
        if value.shape != key.shape:
            raise UnsupportedModel(
                f"layer {layer} has keys {list(key.shape[1:])} and values {list(value.shape[1:])}: they must "
                "be alike (multi-head latent attention is not served)"
            )
        self._shapes[layer] = (query.shape[1], key.shape[1], key.shape[2], key.dtype)
        self.options[layer] = _options(module, query, settings, layer)
        return torch.zeros_like(query, memory_format=torch.contiguous_format)

    @property
    def shape(self) -> _Shape:
        """Of all layers."""
        return self._shapes[0]

    def require_layers(self, name: str, config: Any) -> int:
        """How many layers there are.

        Raises:
            UnsupportedModel: not all of the model's layers attended, or they are not alike.
        """
        expected = config.num_hidden_layers
        if sorted(self.options) != list(range(expected)):
            raise UnsupportedModel(
                f"{name} has {expected} layers, and attention was asked for by {sorted(self.options)}: "
                "layers without attention of their own are not served"
            )
        if len(set(self._shapes.values())) > 1:
            raise UnsupportedModel(
                f"the layers of {name} differ in (query heads, KV heads, head dim, dtype): "
                f"{sorted(set(map(str, self._shapes.values())))}; a KV store has one shape"
            )
        return int(expected)


def _require_arguments(model: Any, name: str) -> None:
    if name not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{type(model).__name__} takes no {name}, which packed sequences cannot do without"
        )


def _layer_index(module: torch.nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UnsupportedModel(f"{type(module).__name__} does not know which layer it is (layer_idx)")
    return layer


def _require_causal(module: torch.nn.Module, settings: Mapping[str, object], layer: int) -> None:
    asked = settings.get("is_causal")
    is_causal = getattr(module, "is_causal", True) if asked is None else asked
    if not is_causal:
        raise UnsupportedModel(f"layer {layer} looks ahead: only causal attention is served")


def _options(
    module: torch.nn.Module, query: torch.Tensor, settings: Mapping[str, object], layer: int
) -> AttentionOptions:
    for name, value in settings.items():
        if isinstance(value, torch.Tensor) and name not in _HARMLESS:
            raise UnsupportedModel(f"layer {layer} gives its attention {name}, which is not served")
    scale = settings.get("scaling")
    sinks = settings.get("s_aux", getattr(module, "sinks", None))
    try:
        return AttentionOptions(
            scale=query.shape[-1] ** -0.5 if scale is None else float(scale),  # type: ignore[arg-type]
            sliding_window=settings.get("sliding_window"),  # type: ignore[arg-type]
            soft_cap=settings.get("softcap"),  # type: ignore[arg-type]
            sinks=sinks.detach().float().contiguous() if isinstance(sinks, torch.Tensor) else None,
        )
    except ConfigError as error:
        raise UnsupportedModel(f"layer {layer} attends in a way that is not served: {error}") from error

"""Which models can be served, and why others cannot."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from pagedkv.errors import UnsupportedModel

__all__ = ["COMPARED", "model_class"]

COMPARED = frozenset(
    {
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
        "llama",
        "mistral",
        "opt",
        "phi3",
        "qwen2",
        "qwen3",
    }
)
"""`model_type` of the models whose greedy output the tests compare with transformers', token by token."""

_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "proportional", "yarn"})
_ROPE_BY_LENGTH = {"dynamic": "dynamic NTK", "longrope": "longrope"}


def model_class(config: Any) -> Any:
    """The class that a configuration's causal language model has.

    Raises:
        UnsupportedModel: there is none, or it cannot be served; the message has the reason.
    """
    name = config.model_type
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{name} is an encoder and a decoder; only decoders are served")
    found = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if found is None:
        raise UnsupportedModel(f"{name} has no causal language model in this version of transformers")
    for rule in _RULES:
        if (reason := rule(config, found)) is not None:
            raise UnsupportedModel(f"{name} cannot be served: {reason}")
    return found


# Each says why a model cannot be served, or None. The first that speaks is heard: special reasons go first.


def _takes_more_than_text(config: Any, _: Any) -> str | None:
    if config.get_text_config(decoder=True) is config:
        return None
    return "it takes more than text; load its text model by itself"


def _compresses_kv(config: Any, _: Any) -> str | None:
    rank = getattr(config, "kv_lora_rank", None)
    if not rank:
        return None
    return f"it keeps a latent vector of {rank} numbers for keys and values (multi-head latent attention)"


def _keeps_state(_: Any, found: Any) -> str | None:
    if not getattr(found, "_is_stateful", False):
        return None
    return "it keeps a state besides keys and values (state-space, recurrent or linear-attention layers)"


def _mixes_layers(config: Any, _: Any) -> str | None:
    others = sorted(set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES)
    return f"it has layers of {', '.join(others)}; served are full and sliding attention" if others else None


def _selects_tokens(config: Any, _: Any) -> str | None:
    if not any(getattr(config, name, None) for name in ("index_topk", "index_topk_blocks")):
        return None
    return "its layers choose which tokens to attend to (sparse attention)"


def _has_alibi(config: Any, found: Any) -> str | None:
    asked = getattr(config, "alibi", None)
    if asked is None:
        asked = any("alibi" in name for name in vars(sys.modules[found.__module__]))
    return "it adds distances to its scores (ALiBi), which the kernels do not" if asked else None


def _rotates_otherwise(config: Any, _: Any) -> str | None:
    for rope in _ropes(config):
        if rope.get("mrope_section") is not None:
            return "its rotary embedding has three axes (mrope), and a text has one"
        kind = rope.get("rope_type", "default")
        if kind in _ROPE_BY_LENGTH:
            return (
                f"its rotary embedding ({_ROPE_BY_LENGTH[kind]}) depends on the longest sequence of a batch, "
                "so that cached keys would not fit"
            )
        if kind not in _ROPE_TYPES:
            return f"its rotary embedding is {kind!r}; served are {', '.join(sorted(_ROPE_TYPES))}"
    return None


def _shares_kv(config: Any, _: Any) -> str | None:
    count = getattr(config, "num_kv_shared_layers", 0)
    return f"{count} of its layers use the KV of others" if count else None


def _looks_ahead(config: Any, _: Any) -> str | None:
    asked = getattr(config, "use_bidirectional_attention", None)
    return "its attention looks ahead; only causal attention is served" if asked else None


def _has_own_attention(_: Any, found: Any) -> str | None:
    if found._supports_attention_backend:  # noqa: SLF001 - there is no other way to ask
        return None
    return f"{found.__name__} does not take attention functions from outside"


_RULES: Sequence[Callable[[Any, Any], str | None]] = (
    _takes_more_than_text,
    _compresses_kv,
    _keeps_state,
    _shares_kv,
    _mixes_layers,
    _selects_tokens,
    _has_alibi,
    _rotates_otherwise,
    _looks_ahead,
    _has_own_attention,
)


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """Settings of the rotary embedding: one set, or one for each type of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in settings.values() if isinstance(value, Mapping)]
    yield from nested or [settings]

"""Models by their shapes: what a step has to read and to multiply."""

from collections.abc import Mapping
from dataclasses import dataclass

from pagedkv.errors import ConfigError
from pagedkv.simulate.profiles import DtypeName

__all__ = ["MODELS", "ModelShape", "model_shape"]

_BYTES: Mapping[DtypeName, int] = {"fp32": 4, "bf16": 2, "fp8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder with grouped-query attention and a gated MLP, without biases.

    Attributes:
        name: what it is called here.
        num_layers: layers.
        hidden_size: width of the residual stream.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        head_dim: elements of a head.
        intermediate_size: width of the MLP.
        vocab_size: tokens that there are.
        tied_embeddings: the output matrix is the input embedding.
        dtype: type of the weights, and of matrix products.
        kv_dtype: type of the KV cache.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied_embeddings: bool = False
    dtype: DtypeName = "bf16"
    kv_dtype: DtypeName = "bf16"

    @property
    def layer_weights(self) -> int:
        """Elements of the matrices of all layers: q, k, v, o; gate, up, down."""
        attention = 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def output_weights(self) -> int:
        """Elements of the matrix that makes logits."""
        return self.vocab_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """All elements, those of embeddings and norms too."""
        norms = (2 * self.num_layers + 1) * self.hidden_size
        return self.layer_weights + self.output_weights * (1 if self.tied_embeddings else 2) + norms

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take."""
        return self.num_parameters * _BYTES[self.dtype]

    @property
    def layer_bytes(self) -> int:
        """Weights that every step reads: the layers' matrices; of an embedding it needs only a few rows."""
        return self.layer_weights * _BYTES[self.dtype]

    @property
    def output_bytes(self) -> int:
        """Weights that a step reads besides if it samples: the matrix that makes logits."""
        return self.output_weights * _BYTES[self.dtype]

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of a token's keys and values in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * _BYTES[self.kv_dtype]

    @property
    def hidden_bytes(self) -> int:
        """Memory of a token in the residual stream."""
        return self.hidden_size * _BYTES[self.dtype]


# Source of all but "tiny": the models' public config.json.
_LLAMA_3_2_1B = ModelShape(
    name="llama-3.2-1b",
    num_layers=16,
    hidden_size=2048,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    intermediate_size=8192,
    vocab_size=128_256,
    tied_embeddings=True,
)
_LLAMA_3_2_3B = ModelShape(
    name="llama-3.2-3b",
    num_layers=28,
    hidden_size=3072,
    num_heads=24,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=8192,
    vocab_size=128_256,
    tied_embeddings=True,
)
_LLAMA_3_8B = ModelShape(
    name="llama-3-8b",
    num_layers=32,
    hidden_size=4096,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=14_336,
    vocab_size=128_256,
)
_LLAMA_3_70B = ModelShape(
    name="llama-3-70b",
    num_layers=80,
    hidden_size=8192,
    num_heads=64,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=28_672,
    vocab_size=128_256,
)
# For tests: small enough to check by hand.
_TINY = ModelShape(
    name="tiny",
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=128,
    vocab_size=512,
)

MODELS: Mapping[str, ModelShape] = {
    each.name: each for each in (_LLAMA_3_2_1B, _LLAMA_3_2_3B, _LLAMA_3_8B, _LLAMA_3_70B, _TINY)
}
"""Shapes by name."""


def model_shape(model: str | ModelShape) -> ModelShape:
    """A shape, from its name if need be.

    Raises:
        ConfigError: there is none of this name.
    """
    if isinstance(model, ModelShape):
        return model
    if model not in MODELS:
        raise ConfigError(f"model shape {model!r} is unknown; there are {', '.join(MODELS)}")
    return MODELS[model]

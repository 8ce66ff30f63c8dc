"""One model over several ranks: each has some of the heads, by the plan that the model comes with.

The plan is transformers' (`tp_plan`). It is carried out here, on the whole model: transformers' own way needs
accelerate and chooses the device itself.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import linear

from pagedkv.errors import ConfigError, UnsupportedModel
from pagedkv.models.ranks import Ranks
from pagedkv.models.spec import ModelSpec

__all__ = ["ColumnParallel", "RowParallel", "load_sharded", "require_sharded"]


class ColumnParallel(torch.nn.Module):
    """A linear layer of which each rank computes some of the outputs.

    Args:
        whole: the layer. Its weight is `[num_outputs, num_inputs]`.
        ranks: the ranks.
        gathers: whether the outputs of all ranks come out on each; they need not divide then.
    """

    def __init__(self, whole: torch.nn.Linear, ranks: Ranks, *, gathers: bool) -> None:
        super().__init__()
        self._ranks, self._num_outputs, self._gathers = ranks, whole.out_features, gathers
        self.weight = _kept(_part(whole.weight, 0, ranks, is_padded=gathers))
        self.bias = None if whole.bias is None else _kept(_part(whole.bias, 0, ranks, is_padded=gathers))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """From `[..., num_inputs]` to this rank's part of `[..., num_outputs]`, or the whole."""
        outputs = linear(inputs, self.weight, self.bias)
        return self._ranks.side_by_side(outputs)[..., : self._num_outputs] if self._gathers else outputs


class RowParallel(torch.nn.Module):
    """A linear layer of which each rank has some of the inputs; the outputs are added up.

    Args:
        whole: the layer. Its weight is `[num_outputs, num_inputs]`.
        ranks: the ranks.
        splits: whether the inputs come whole on each rank.
    """

    def __init__(self, whole: torch.nn.Linear, ranks: Ranks, *, splits: bool) -> None:
        super().__init__()
        self._ranks, self._splits = ranks, splits
        self.weight = _kept(_part(whole.weight, 1, ranks))
        self.bias = whole.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """From this rank's part of `[..., num_inputs]`, or the whole, to `[..., num_outputs]`."""
        if self._splits:
            inputs = _part(inputs, -1, self._ranks)
        outputs = self._ranks.add_up(linear(inputs, self.weight))
        return outputs if self.bias is None else outputs + self.bias


_Style = Callable[[torch.nn.Linear, Ranks], torch.nn.Module]
_STYLES: Mapping[str, _Style | None] = {
    "colwise": lambda whole, ranks: ColumnParallel(whole, ranks, gathers=False),
    "colwise_gather_output": lambda whole, ranks: ColumnParallel(whole, ranks, gathers=True),
    "colwise_rep": lambda whole, ranks: ColumnParallel(whole, ranks, gathers=True),
    "rowwise": lambda whole, ranks: RowParallel(whole, ranks, splits=False),
    "rowwise_split_input": lambda whole, ranks: RowParallel(whole, ranks, splits=True),
    "rowwise_rep": lambda whole, ranks: RowParallel(whole, ranks, splits=True),
    "embedding_rowwise": None,  # embeddings stay whole
    "replicate": None,
    "replicated_with_grad_allreduce": None,
}
"""What a plan asks of a layer, by name; None where it stays as it is."""


def load_sharded(load: Callable[[], Any], config: Any, ranks: Ranks) -> Any:
    """Load a model, and keep this rank's part of it. No rank waits for another here.

    Args:
        load: loads the whole of it, into the memory of the host.
        config: its configuration.
        ranks: the ranks.

    Raises:
        UnsupportedModel: it comes with no plan, or with one that asks for what is not served.
        ConfigError: heads or features do not divide.
        Exception: what `load` raised.
    """
    _require_shardable(config, ranks)
    model = load()
    for pattern, style in model.tp_plan.items():
        _shard(model, pattern, style, ranks)
    return model


def require_sharded(spec: ModelSpec, config: Any, ranks: Ranks) -> None:
    """Check that the plan has split the heads.

    Raises:
        UnsupportedModel: it has not.
    """
    expected = config.num_attention_heads // ranks.size
    if spec.num_query_heads != expected:
        raise UnsupportedModel(
            f"the plan of {config.model_type} leaves {spec.num_query_heads} query heads and "
            f"{spec.num_kv_heads} KV heads on each of {ranks.size} processes, so that they would not share "
            "the KV; start one, or pass tensor_parallel_size=1"
        )


def _require_shardable(config: Any, ranks: Ranks) -> None:
    """Look before the minutes of loading."""
    if not getattr(config, "base_model_tp_plan", None):
        raise UnsupportedModel(
            f"{config.model_type} comes with no plan for sharing it (base_model_tp_plan), and {ranks.size} "
            "processes are to: start one, or pass tensor_parallel_size=1"
        )
    num_heads = config.num_attention_heads
    counts = {
        "query heads": num_heads,
        "KV heads": getattr(config, "num_key_value_heads", None) or num_heads,
    }
    for what, count in counts.items():
        if count % ranks.size:
            raise ConfigError(
                f"{config.model_type} has {count} {what}, which {ranks.size} processes cannot share equally: "
                f"start a number that divides {count}"
            )


def _shard(model: torch.nn.Module, pattern: str, style: str, ranks: Ranks) -> None:
    """Do to all layers of a name what their style asks for."""
    found = re.compile(re.escape(pattern).replace(r"\*", r"\d+"))
    names = [name for name, _ in model.named_modules() if found.fullmatch(name)]
    names += [name for name, _ in model.named_parameters() if found.fullmatch(name)]
    for name in names:
        if style not in _STYLES:
            raise UnsupportedModel(
                f"{name} is to be split as {style!r}, which is not served; served are {', '.join(_STYLES)}"
            )
        if (make := _STYLES[style]) is not None:
            _replace(model, name, make, ranks)


def _replace(model: torch.nn.Module, name: str, make: _Style, ranks: Ranks) -> None:
    parent, _, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    whole = getattr(owner, child)
    if not isinstance(whole, torch.nn.Linear):
        raise UnsupportedModel(f"{name} is a {type(whole).__name__}; only linear layers are split")
    try:
        setattr(owner, child, make(whole, ranks))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _part(tensor: torch.Tensor, dim: int, ranks: Ranks, *, is_padded: bool = False) -> torch.Tensor:
    """This rank's part in one dimension: equal for all, with zeros at the very end where that is allowed."""
    count = tensor.shape[dim]
    if count % ranks.size and not is_padded:
        raise ConfigError(f"{count} features do not divide by {ranks.size} processes; start another number")
    each = -(-count // ranks.size)
    start = min(ranks.rank * each, count)
    part = tensor.narrow(dim, start, min(each, count - start))
    if (missing := each - part.shape[dim]) == 0:
        return part
    shape = list(part.shape)
    shape[dim] = missing
    return torch.cat((part, part.new_zeros(shape)), dim)


def _kept(part: torch.Tensor) -> torch.nn.Parameter:
    """A parameter that does not keep the whole alive."""
    return torch.nn.Parameter(part.detach().clone(), requires_grad=False)

"""Weights of linear layers on a CPU, in the layout that its products are quickest with.

oneDNN multiplies a plain matrix either as it lies or after reordering it, again in every call. Here each
large weight is reordered once. The copy is kept beside the original, which the model keeps: it may be tied
to the embeddings, others may have the model, and it gets its own forward back in the end.

torch has a public way to such a layout, `torch.utils.mkldnn.to_mkldnn`. With fp32 weights of 768 x 768 to
32 000 x 768 it took 1.26 to 1.29 times as long at 32 rows as the operators used here, and 1.5 to 1.9 times at
8: it reorders for a single row, and converts inputs and outputs. It also replaces modules, in place. The
operators are those that torch's compiler emits for the same purpose; where they are missing, the layers stay
as they are.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from pagedkv.device_memory import available_memory

__all__ = ["PackedLinears"]

_log = logging.getLogger("pagedkv")

_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")
_ROWS = 32  # oneDNN is told how many to expect; what it chooses for these serves others, too
_LEAST = 1 << 18  # elements of a weight; a call costs 12 us more, which smaller ones do not win back


class PackedLinears:
    """Linear layers of a model that multiply by packed copies of their weights, until they are released.

    It is for plain `torch.nn.Linear` on a CPU in float32, and in bfloat16 where the CPU has instructions for
    it. Subclasses and layers with a forward of their own stay as they are. Either all layers are packed, or
    none: where there is no memory for all copies, or torch cannot pack, a line is logged. The weights must
    not change meanwhile.

    Args:
        model: on whose layers this is done.
        reserved: bytes of free memory that are not for the copies.
        least: elements of a weight; smaller ones are not packed.

    Attributes:
        num_bytes: what the copies take.
    """

    def __init__(self, model: torch.nn.Module, *, reserved: int = 0, least: int = _LEAST) -> None:
        self._layers: list[torch.nn.Linear] = []
        self.num_bytes = 0
        found = list(_suitable(model, least))
        num_bytes = sum(layer.weight.nbytes for layer in found)
        if not found or not _is_room(num_bytes, reserved):
            return
        try:
            forwards = [_packed_forward(layer) for layer in found]
        except RuntimeError as error:
            _log.warning("[Linear] weights stay unpacked: %s", error)
            return
        for layer, forward in zip(found, forwards, strict=True):
            layer.__dict__["forward"] = forward
        self._layers, self.num_bytes = found, num_bytes
        _log.info("[Linear] %d weights packed, %.2f GiB more", len(found), num_bytes / 2**30)

    def __len__(self) -> int:
        """Layers that are packed."""
        return len(self._layers)

    def release(self) -> None:
        """Give the layers their own forward back, and the memory of the copies. Again: nothing."""
        for layer in self._layers:
            del layer.__dict__["forward"]
        self._layers, self.num_bytes = [], 0


def _suitable(model: torch.nn.Module, least: int) -> Iterator[torch.nn.Linear]:
    """The layers that can be packed and win by it."""
    dtypes = _dtypes()
    for layer in model.modules():
        if type(layer) is not torch.nn.Linear or "forward" in vars(layer):
            continue
        weight = layer.weight
        if weight.device.type == "cpu" and weight.dtype in dtypes and weight.numel() >= least:
            yield layer


def _dtypes() -> set[torch.dtype]:
    """What can be packed here."""
    operators: Any = torch.ops.mkldnn
    library: Any = torch.backends.mkldnn
    if not library.is_available() or not all(hasattr(operators, name) for name in _OPERATORS):
        _log.info("[Linear] weights stay unpacked: this build of torch has no operators for it")
        return set()
    has_bf16 = getattr(operators, "_is_mkldnn_bf16_supported", None)
    return {torch.float32, torch.bfloat16} if has_bf16 is not None and has_bf16() else {torch.float32}


def _is_room(num_bytes: int, reserved: int) -> bool:
    free = available_memory(torch.device("cpu"))
    if free is None or num_bytes + reserved <= free:
        return True
    _log.warning(
        "[Linear] weights stay unpacked: copies take %.2f GiB, and %.2f of %.2f GiB free are for others",
        num_bytes / 2**30,
        reserved / 2**30,
        free / 2**30,
    )
    return False


def _packed_forward(layer: torch.nn.Linear) -> Any:
    """What a layer does, on a copy of its weight."""
    operators: Any = torch.ops.mkldnn
    with torch.no_grad():
        packed = operators._reorder_linear_weight(layer.weight.detach(), _ROWS)  # noqa: SLF001 - no other way
    return partial(_multiply, operators._linear_pointwise, packed, layer.bias)  # noqa: SLF001


def _multiply(
    operator: Any,
    packed: torch.Tensor,
    bias: torch.Tensor | None,
    input: torch.Tensor,  # noqa: A002
) -> torch.Tensor:
    """The argument is called as in `torch.nn.Linear.forward`."""
    product: torch.Tensor = operator(input, packed, bias, "none", [], "")
    return product

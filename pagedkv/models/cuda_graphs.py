"""Steps of decodes alone as CUDA graphs: one launch in place of hundreds."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch

from pagedkv.models.inputs import DecodeInputs, PackedInputs, idle

__all__ = ["DecodeGraphs", "batch_sizes"]

_log = logging.getLogger("pagedkv")


def batch_sizes(most: int) -> list[int]:
    """Sizes that batches are padded to, ascending: powers of 2, from 8 on also halfway, and `most`."""
    sizes, size = {most}, 1
    while size < most:
        sizes |= {size, *([size * 3 // 2] if size >= 8 else [])}
        size *= 2
    return sorted(each for each in sizes if each <= most)


class DecodeGraphs:
    """A forward over inputs that always lie in the same place, recorded once for each size of the batch.

    A smaller batch is padded with sequences of length 0, whose KV goes nowhere. Without `capture` the same
    padded inputs go through the forward itself.

    Args:
        forward: from inputs to logits `[num_tokens, vocab_size]`.
        device: of the inputs.
        max_batch: sequences at most.
        max_blocks: blocks of a sequence at most.

    Attributes:
        sizes: what batches are padded to, ascending.
    """

    def __init__(
        self,
        forward: Callable[[PackedInputs], torch.Tensor],
        device: torch.device,
        *,
        max_batch: int,
        max_blocks: int,
    ) -> None:
        self.sizes: Sequence[int] = batch_sizes(max_batch)
        self._forward = forward
        self._device = device
        self._static = idle(device, num_decodes=max_batch, max_blocks=max_blocks)
        self._max_blocks = max_blocks
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def takes(self, inputs: PackedInputs) -> bool:
        """Whether these are decodes alone, and not too many or too long."""
        decodes = inputs.decodes
        return (
            inputs.chunks is None
            and decodes is not None
            and len(decodes.lengths) <= self.sizes[-1]
            and decodes.tables.shape[1] <= self._max_blocks
        )

    def run(self, inputs: PackedInputs) -> torch.Tensor:
        """The logits of a batch that it takes, `[batch, vocab_size]`; the next run overwrites them."""
        batch = inputs.num_decodes
        size = self.sizes[bisect_left(self.sizes, batch)]
        self._fill(inputs, size)
        if (recorded := self._graphs.get(size)) is None:
            return self._forward(self._of_size(size))[:batch]
        graph, logits = recorded
        graph.replay()
        return logits[:batch]

    def capture(self) -> bool:
        """Record all sizes, the largest first, whose memory the others share; returns whether that worked.

        A model that looks at its own numbers while it runs cannot be recorded; a line in the log says so.
        """
        try:
            with torch.inference_mode():
                for size in reversed(self.sizes):
                    self._record(size)
        except RuntimeError as error:
            self._graphs.clear()
            _log.warning(
                "[Models] decodes run without CUDA graphs: recording one failed: %s",
                str(error).split("\n", 1)[0],
            )
            return False
        return True

    def _record(self, size: int) -> None:
        inputs = self._of_size(size)
        self._forward(inputs)  # what is made at a first call is made now
        graph = torch.cuda.CUDAGraph()
        pool = next((recorded.pool() for recorded, _ in self._graphs.values()), None)
        with torch.cuda.device(self._device), torch.cuda.graph(graph, pool=pool):
            logits = self._forward(inputs)
        self._graphs[size] = graph, logits

    def _fill(self, inputs: PackedInputs, size: int) -> None:
        """Put a batch where its graph reads it, and padding behind it."""
        static, batch, decodes = self._static, inputs.num_decodes, inputs.decodes
        if decodes is None or static.decodes is None:
            return
        static.token_ids[:batch].copy_(inputs.token_ids)
        static.positions[:batch].copy_(inputs.positions)
        static.slots[:batch].copy_(inputs.slots)
        static.decodes.lengths[:batch].copy_(decodes.lengths)
        static.decodes.tables[:batch, : decodes.tables.shape[1]].copy_(decodes.tables)
        if batch < size:
            static.slots[batch:size] = -1
            static.decodes.lengths[batch:size] = 0

    def _of_size(self, size: int) -> PackedInputs:
        static = self._static
        decodes = static.decodes
        return PackedInputs(
            token_ids=static.token_ids[:size],
            positions=static.positions[:size],
            slots=static.slots[:size],
            sampled=None,
            decodes=None if decodes is None else DecodeInputs(decodes.tables[:size], decodes.lengths[:size]),
            chunks=None,
        )

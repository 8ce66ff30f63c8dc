"""One forward for all sequences of a step, over a paged KV store."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pagedkv.block_manager import BlockManager
from pagedkv.kernels import (
    AttentionOptions,
    AttentionPlan,
    Workspace,
    block_copy,
    kv_write,
    paged_decode,
    paged_prefill,
)
from pagedkv.kv_store import KVStore
from pagedkv.models.attention import ARGUMENT
from pagedkv.models.copies import waves
from pagedkv.models.cuda_graphs import DecodeGraphs
from pagedkv.models.inputs import PackedInputs, idle, pack
from pagedkv.models.spec import LoadedModel
from pagedkv.scheduler.step import ScheduledStep
from pagedkv.tracing import nvtx_range

__all__ = ["PackedModel", "PagedAttention"]

_WARM_UP_TOKENS = 128


class PagedAttention:
    """Who attends in a packed forward: KV goes to its slots, and queries read the blocks of their sequence.

    Args:
        inputs: of the forward.
        store: keys and values.
        options: of each layer.
        workspace: scratch memory.
    """

    __slots__ = ("_inputs", "_options", "_plan", "_store", "_workspace")

    def __init__(
        self,
        inputs: PackedInputs,
        store: KVStore,
        options: Sequence[AttentionOptions],
        workspace: Workspace,
    ) -> None:
        self._inputs, self._store, self._options, self._workspace = inputs, store, options, workspace
        self._plan = AttentionPlan()

    def attend(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: Mapping[str, object],  # noqa: ARG002 - they are those of the probe
    ) -> torch.Tensor:
        """Attend in one layer; see `attention.Attends`."""
        layer: int = module.layer_idx
        kv, options, inputs = self._store.layer(layer), self._options[layer], self._inputs
        kv_write(key, value, kv, inputs.slots, scales=self._store.scales[layer], plan=self._plan)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        batch = inputs.num_decodes
        if (decodes := inputs.decodes) is not None:
            paged_decode(
                query[:batch].unsqueeze(1),
                kv,
                decodes.tables,
                decodes.lengths,
                options,
                out=out[:batch].unsqueeze(1),
                workspace=self._workspace,
                plan=self._plan,
            )
        if (chunks := inputs.chunks) is not None:
            paged_prefill(
                query[batch:],
                chunks.starts,
                kv,
                chunks.tables,
                chunks.lengths,
                options,
                out=out[batch:],
                workspace=self._workspace,
                plan=self._plan,
            )
        return out


class PackedModel:
    """A model that computes steps.

    Args:
        loaded: the model.
        cache: whose block tables steps mean.
        store: keys and values of its blocks.

    Attributes:
        loaded: the model.
        store: keys and values.
        graphs: what runs steps of decodes alone; None for the model itself.
    """

    def __init__(self, loaded: LoadedModel, cache: BlockManager, store: KVStore) -> None:
        self.loaded = loaded
        self.store = store
        self.graphs: DecodeGraphs | None = None
        self._cache = cache
        self._workspace = Workspace(loaded.spec.device)
        self._copying = nvtx_range("copies")
        self._packing = nvtx_range("inputs")
        self._computing = nvtx_range("forward")
        self._can_keep = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters

    def forward(self, step: ScheduledStep) -> torch.Tensor:
        """Run the copies of a step, compute the KV of its tokens, and what may come behind them.

        Returns:
            `[num_sampled, vocab_size]` (float32) logits, in the order of `ScheduledStep.sampling()`.
        """
        with torch.inference_mode():
            if step.copies:
                with self._copying:
                    self.copy(step.copies)
            with self._packing:
                inputs = pack(step, self._cache, self.loaded.spec.device)
            with self._computing:
                if self.graphs is not None and self.graphs.takes(inputs):
                    return self.graphs.run(inputs)
                return self.run(inputs)

    def warm_up(self, *, max_batch: int, cuda_graphs: bool) -> None:
        """Compile the kernels, and record a graph for every size of a decode batch.

        It is for a store that holds nothing yet: a copy is tried out on its first blocks.

        Args:
            max_batch: sequences that decode at once at most.
            cuda_graphs: whether to record graphs; only on a GPU.
        """
        spec = self.loaded.spec
        max_blocks = -(-self.loaded.max_model_len // self._cache.config.block_size)
        with torch.inference_mode():
            self.run(idle(spec.device, num_decodes=1, num_chunk_tokens=_WARM_UP_TOKENS))
            self.run(idle(spec.device, num_decodes=1, max_blocks=max_blocks))  # is split
            self.run(idle(spec.device, num_decodes=max_batch))  # is not
            if self._cache.config.num_blocks > 1:
                self.copy([(0, 1)])
        if cuda_graphs:
            graphs = DecodeGraphs(self.run, spec.device, max_batch=max_batch, max_blocks=max_blocks)
            self.graphs = graphs if graphs.capture() else None

    def copy(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy blocks in all layers, in order."""
        for wave in waves(copies):
            block_copy(self.store.layers, torch.tensor(wave, device=self.loaded.spec.device))

    def run(self, inputs: PackedInputs) -> torch.Tensor:
        """A forward; returns `[num_sampled, vocab_size]` (float32) logits."""
        who = PagedAttention(inputs, self.store, self.loaded.spec.attention, self._workspace)
        sampled = inputs.sampled
        kept = {"logits_to_keep": sampled} if self._can_keep and sampled is not None else {}
        output = self.loaded.model(
            input_ids=inputs.token_ids[None],
            position_ids=inputs.positions[None],
            use_cache=False,
            **kept,
            **{ARGUMENT: who},
        )
        logits: torch.Tensor = output.logits[0]
        if sampled is not None and not kept:
            logits = logits[sampled]
        return logits.float()

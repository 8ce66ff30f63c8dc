"""Models of Hugging Face transformers, unmodified, over a paged KV store. Imports torch and transformers."""

from pagedkv.device_memory import available_memory
from pagedkv.models.executor import TorchExecutor
from pagedkv.models.loading import DTYPES, load_model
from pagedkv.models.memory import default_num_blocks, fit_num_blocks, make_kv_store, require_memory
from pagedkv.models.packed import PackedModel
from pagedkv.models.packed_linear import PackedLinears
from pagedkv.models.ranks import Ranks
from pagedkv.models.shared import SharedClock, SharedExecutor, SharedScheduler
from pagedkv.models.spec import LoadedModel, ModelSpec

__all__ = [
    "DTYPES",
    "LoadedModel",
    "ModelSpec",
    "PackedLinears",
    "PackedModel",
    "Ranks",
    "SharedClock",
    "SharedExecutor",
    "SharedScheduler",
    "TorchExecutor",
    "available_memory",
    "default_num_blocks",
    "fit_num_blocks",
    "load_model",
    "make_kv_store",
    "require_memory",
]

"""Memory of the devices that torch has, where it is loaded; it is not loaded for this."""

import sys
from collections.abc import Callable
from typing import Any

from pagedkv.engine.sections.subject import Subject

__all__ = ["device_memory"]


def device_memory(_subject: Subject) -> Callable[[], list[dict[str, Any]] | None]:
    """Null where nobody uses a GPU."""
    return _shown


def _shown() -> list[dict[str, Any]] | None:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    return [_device(cuda, index) for index in range(cuda.device_count()) if cuda.memory_reserved(index)]


def _device(cuda: Any, index: int) -> dict[str, Any]:
    num_free, num_total = cuda.mem_get_info(index)
    return {
        "device": index,
        "name": cuda.get_device_name(index),
        "allocated_bytes": cuda.memory_allocated(index),
        "reserved_bytes": cuda.memory_reserved(index),
        "free_bytes": num_free,
        "total_bytes": num_total,
    }

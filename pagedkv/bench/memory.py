"""How large the cache is, and how much memory a shape needs."""

from pathlib import Path

import torch

from pagedkv.bench.cases import ATTENTION, COMPUTE_DTYPE, ELEMENT_BYTES, Case
from pagedkv.bench.floors import work_of

__all__ = ["cache_bytes", "needed_bytes"]

_FALLBACK_CACHE_BYTES = 64 << 20
_MARGIN_BYTES = 512 << 20
"""What references, temporary results and the allocator take besides."""


def needed_bytes(case: Case, device: str) -> int:
    """About what measuring a shape takes: the pool, copies for the peers and for the check."""
    heads, work = case.heads, work_of(case)
    if case.kernel not in ATTENTION:
        return 6 * work.bytes_written + _MARGIN_BYTES
    elements = 2 * case.num_tokens * heads.num_kv_heads * heads.head_dim
    is_repeated = device == "cpu" and case.kernel == "paged_prefill"
    contiguous = elements * ELEMENT_BYTES[COMPUTE_DTYPE[case.dtype]] * (1 + heads.group * is_repeated)
    return elements * ELEMENT_BYTES[case.dtype] + 2 * contiguous + 8 * work.bytes_written + _MARGIN_BYTES


def cache_bytes(device: torch.device) -> int:
    """Size of the last cache before memory."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return int(getattr(properties, "L2_cache_size", 0)) or _FALLBACK_CACHE_BYTES
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((_size(path) for path in sizes), default=0) or _FALLBACK_CACHE_BYTES


def _size(path: Path) -> int:
    """Bytes of a text such as "32768K"; 0 of any other."""
    try:
        text = path.read_text("ascii").strip()
        return int(text.rstrip("KM")) << (20 if text.endswith("M") else 10 if text.endswith("K") else 0)
    except (OSError, ValueError):
        return 0

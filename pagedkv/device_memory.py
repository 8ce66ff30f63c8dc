"""How much memory of a device can be had. Imports torch."""

import torch

from pagedkv.memory import available_host_memory

__all__ = ["available_memory"]


def available_memory(device: torch.device) -> int | None:
    """What a device can still give, in bytes; None if nobody knows.

    What torch holds of a GPU without using it counts, as it gives that to whoever asks next.
    """
    if device.type != "cuda":
        return available_host_memory()
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + int(unused)

"""Pages in host memory and in a file, moved by threads and streams."""

from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.mover import StorageMover

__all__ = ["FileLayer", "StorageMover"]

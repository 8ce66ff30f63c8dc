"""What the GPU compiler makes of Triton kernels, on a machine that needs no GPU.

A provider describes launches, worker processes compile them for an architecture, and the compiled code is
read: registers, spills, shared memory, loads by width, tensor-core instructions. Nothing here knows pytest.
"""

from pytest_pagedkv.compiler.resources import Limits, Resources
from pytest_pagedkv.compiler.variant import Described, Variant

__all__ = ["Described", "Limits", "Resources", "Variant"]

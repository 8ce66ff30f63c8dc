"""The same scheduler and cache on a virtual clock: a cost model in the place of the device."""

from pagedkv.simulate.cost import CostModel, StepWork
from pagedkv.simulate.executor import SimulatedExecutor
from pagedkv.simulate.profiles import DEVICES, DeviceProfile, device_profile
from pagedkv.simulate.shapes import MODELS, ModelShape, model_shape

__all__ = [
    "DEVICES",
    "MODELS",
    "CostModel",
    "DeviceProfile",
    "ModelShape",
    "SimulatedExecutor",
    "StepWork",
    "device_profile",
    "model_shape",
]

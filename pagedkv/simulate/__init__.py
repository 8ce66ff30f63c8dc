"""The same scheduler and cache on a virtual clock: a cost model in the place of the device."""

from pagedkv.simulate.cost import CostModel, StepWork
from pagedkv.simulate.executor import SimulatedExecutor
from pagedkv.simulate.profiles import DEVICES, DeviceProfile, device_profile
from pagedkv.simulate.result import Series, SimulationResult, Timeline
from pagedkv.simulate.shapes import MODELS, ModelShape, model_shape
from pagedkv.simulate.simulate import fitting_cache, simulate

__all__ = [
    "DEVICES",
    "MODELS",
    "CostModel",
    "DeviceProfile",
    "ModelShape",
    "Series",
    "SimulatedExecutor",
    "SimulationResult",
    "StepWork",
    "Timeline",
    "device_profile",
    "fitting_cache",
    "model_shape",
    "simulate",
]

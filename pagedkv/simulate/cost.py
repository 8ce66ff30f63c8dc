"""What a step costs: a roofline in integers, so that it is the same on every machine.

A step is done in five parts, one after the other:

    matrices     max(weights read once, multiplications and additions of all tokens); the output matrix only
                 if a token is sampled
    attention    max(KV read by every sequence and written for every token, its operations)
    copies       copy-on-write, each byte read and written
    exchange     with several devices, the two sums of every layer, around a ring
    overhead     the step, and every kernel of every layer

Source of the model: S. Williams et al., "Roofline", CACM 2009; of the operations: R. Pope et al.,
"Efficiently Scaling Transformer Inference", MLSys 2023.
"""

from dataclasses import dataclass

from pagedkv.errors import ConfigError
from pagedkv.scheduler.step import ScheduledStep
from pagedkv.simulate.profiles import DeviceProfile, device_profile
from pagedkv.simulate.shapes import ModelShape, model_shape

__all__ = ["CostModel", "StepWork"]

_NS_PER_S = 10**9
_PERCENT = 100
_KERNELS_PER_LAYER = 8  # norm, qkv, rotation and KV write, attention, output, norm, gate and up, down
_SUMS_PER_LAYER = 2  # behind attention and behind the MLP
_SUM_NS = 10_000  # an assumption: what a small all-reduce takes besides its bytes


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step has to do, counted.

    Attributes:
        num_tokens: tokens that are computed.
        num_sampled: tokens that are sampled.
        num_kv_tokens: tokens whose KV is read: the context of every sequence, once for each.
        num_scores: pairs of a computed token and a token that it looks at.
        num_copies: blocks that are copied.
    """

    num_tokens: int
    num_sampled: int
    num_kv_tokens: int
    num_scores: int
    num_copies: int

    @classmethod
    def of(cls, step: ScheduledStep) -> "StepWork":
        """Count a step: O(chunks), and one sum over the decodes."""
        num_decodes = len(step.decodes)
        num_tokens, num_sampled = num_decodes, num_decodes
        num_kv_tokens = num_scores = int(step.decodes.positions.sum()) + num_decodes
        for chunk in step.chunks:
            num_tokens += chunk.num_tokens
            num_sampled += chunk.samples
            num_kv_tokens += chunk.stop
            num_scores += chunk.num_tokens * (chunk.start + chunk.stop + 1) // 2
        return cls(num_tokens, num_sampled, num_kv_tokens, num_scores, len(step.copies))


class CostModel:
    """How long steps of a model take on a device, or on several that share every layer.

    Args:
        device: a profile, or the name of one.
        model: a shape, or the name of one.
        block_size: tokens in a block.
        num_devices: devices that the heads and the MLP are divided among.

    Attributes:
        device: the profile.
        model: the shape.
        block_bytes: bytes of a block, over all devices.
        num_devices: the devices.

    Raises:
        ConfigError: a name is unknown, the device does not have the model's types, the block size is out of
            range, or the model cannot be divided so.
    """

    def __init__(
        self, device: str | DeviceProfile, model: str | ModelShape, *, block_size: int, num_devices: int = 1
    ) -> None:
        self.device = device_profile(device)
        self.model = model_shape(model)
        _require_positive("block_size", block_size)
        _require_positive("num_devices", num_devices)
        _check_division(self.device, self.model, num_devices)
        self.block_bytes = self.model.kv_bytes_per_token * block_size
        self.num_devices = num_devices
        self._flops_per_s = num_devices * self.device.reached_flops_per_s(self.model.dtype)
        self._bytes_per_s = num_devices * self.device.reached_memory_bytes_per_s
        kernels = self.model.num_layers * _KERNELS_PER_LAYER
        self._layers_ns = _ceil_ns(self.model.layer_bytes, self._bytes_per_s)
        self._weights_ns = _ceil_ns(self.model.layer_bytes + self.model.output_bytes, self._bytes_per_s)
        self._overhead_ns = self.device.step_ns + kernels * self.device.kernel_ns

    def step_ns(self, step: ScheduledStep) -> int:
        """How long a step takes; an empty one takes no time."""
        return self.work_ns(StepWork.of(step)) if step else 0

    def work_ns(self, work: StepWork) -> int:
        """How long so much work takes, in one step."""
        copied = 2 * work.num_copies * self.block_bytes
        return (
            self._matrices_ns(work)
            + self._attention_ns(work)
            + _ceil_ns(copied, self._bytes_per_s)
            + self._exchange_ns(work.num_tokens)
            + self._overhead_ns
        )

    def num_blocks_fitting(self, memory_percent: int = 90) -> int:
        """Blocks that fit behind the weights into a share of the memory.

        Raises:
            ConfigError: not even one does.
        """
        memory = self.num_devices * self.device.memory_bytes * memory_percent // _PERCENT
        weights = self.model.weight_bytes
        if memory - weights < self.block_bytes:
            raise ConfigError(
                f"{self.model.name} has {weights} bytes of weights, and {memory_percent}% of "
                f"{self.num_devices} x {self.device.name} are {memory} bytes: no block of "
                f"{self.block_bytes} bytes fits; take more devices, a larger one, or a smaller model"
            )
        return (memory - weights) // self.block_bytes

    def _matrices_ns(self, work: StepWork) -> int:
        model = self.model
        flops = 2 * (work.num_tokens * model.layer_weights + work.num_sampled * model.output_weights)
        read_ns = self._weights_ns if work.num_sampled else self._layers_ns
        return max(read_ns, _ceil_ns(flops, self._flops_per_s))

    def _attention_ns(self, work: StepWork) -> int:
        model = self.model
        moved = (work.num_kv_tokens + work.num_tokens) * model.kv_bytes_per_token
        flops = 4 * work.num_scores * model.num_layers * model.num_heads * model.head_dim
        return max(_ceil_ns(moved, self._bytes_per_s), _ceil_ns(flops, self._flops_per_s))

    def _exchange_ns(self, num_tokens: int) -> int:
        n = self.num_devices
        if n == 1:
            return 0
        moved = 2 * (n - 1) * num_tokens * self.model.hidden_bytes  # around the ring, by all n together
        once = _ceil_ns(moved, n * self.device.reached_peer_bytes_per_s) + _SUM_NS
        return self.model.num_layers * _SUMS_PER_LAYER * once


def _ceil_ns(amount: int, per_s: int) -> int:
    """Time for an amount at a rate, rounded up."""
    return -(-amount * _NS_PER_S // per_s)


def _require_positive(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be an int of at least 1")


def _check_division(device: DeviceProfile, model: ModelShape, num_devices: int) -> None:
    shared = ("num_heads", "num_kv_heads", "intermediate_size")
    left = [f"{name} is {size}" for name in shared if (size := getattr(model, name)) % num_devices]
    if left:
        raise ConfigError(
            f"{model.name} cannot be divided among {num_devices} devices: {', '.join(left)}; "
            "choose a num_devices that divides them"
        )
    if num_devices > 1 and not device.reached_peer_bytes_per_s:
        raise ConfigError(f"{device.name} has no link to a second device; num_devices must be 1")

"""What a profiler saw: kernels and copies of devices, calls of the host, steps. Times are in microseconds."""

import re
from collections import Counter
from collections.abc import Hashable

from pagedkv.doctor.seen import Seen
from pagedkv.doctor.timeline.calls import Calls
from pagedkv.doctor.timeline.intervals import Intervals, overlap
from pagedkv.pitfalls.finding import Source

__all__ = ["Timeline", "is_blocking", "is_compiling", "is_step"]

_STEP = re.compile(r"(schedule|execute|commit|execute_model|ProfilerStep)(?:#\d+)?(?:\s*[:(].*)?$")
_BLOCKING = re.compile(
    r"(cuda|hip)(StreamSynchronize|DeviceSynchronize|EventSynchronize|Memcpy)(_v\d+|_ptsz)*$"
    r"|cu(StreamSynchronize|CtxSynchronize|EventSynchronize|Memcpy(HtoD|DtoH)?)(_v\d+|_ptsz)*$"
)
_COMPILING = re.compile(
    r"(cu|hip)(Module|Library)Load|cudaLibraryLoad|cudaGraphInstantiate|cuGraphInstantiate|hipGraphInstantiate"
    r"|cuLink|nvrtcCompileProgram|triton[\\/.].*compil|compile_fx|CachingAutotuner\.(?:precompile|benchmark)"
    r"|async_compile|_compile\.compile_inner|Torch-Compiled Region: compile"
)


def is_step(name: str) -> str:
    """The kind of step that a range of this name is, or ""."""
    match = _STEP.match(name)
    return match[1] if match else ""


def is_blocking(name: str) -> bool:
    """Whether a call of this name holds the host up until the device is there."""
    return _BLOCKING.match(name) is not None


def is_compiling(name: str) -> bool:
    """Whether a call of this name compiles or loads code, or builds a graph."""
    return _COMPILING.search(name) is not None


class Timeline:
    """The events of one file, folded.

    Attributes:
        file: its name.
        steps: time in steps, by thread.
        num_steps: how many there are, by kind.
        syncs: calls that block.
        compiling: calls that compile.
        pageable: copies from or to pageable memory; their value is the bytes.
        copy_bytes: bytes between host and device.
        num_kernels: kernels that ran.
        num_copies: copies between host and device.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.steps: dict[Hashable, Intervals] = {}
        self.num_steps: Counter[str] = Counter()
        self.syncs, self.compiling = Calls(), Calls()
        self._kernels: dict[Hashable, Intervals] = {}
        self._copies: dict[Hashable, Intervals] = {}
        self.pageable = Seen()
        self.copy_bytes = 0.0
        self.num_kernels = self.num_copies = 0

    def step(self, thread: Hashable, kind: str, start: float, end: float) -> None:
        """A step, or a phase of one."""
        self.num_steps[kind] += 1
        self.steps.setdefault(thread, Intervals()).add(start, end)

    def kernel(self, device: Hashable, start: float, end: float) -> None:
        """A kernel."""
        self.num_kernels += 1
        self._kernels.setdefault(device, Intervals()).add(start, end)

    def copy(
        self,
        device: Hashable,
        start: float,
        end: float,
        num_bytes: float,
        *,
        pageable: bool,
        number: int,
        name: str,
    ) -> None:
        """A copy between host and device."""
        self.num_copies += 1
        self.copy_bytes += num_bytes
        self._copies.setdefault(device, Intervals()).add(start, end)
        if pageable:
            text = f"{name}, {num_bytes:,.0f} bytes, {end - start:,.1f} us"
            self.pageable.note(lambda at: Source(self.file, at, text), number, num_bytes)

    def copy_time(self) -> tuple[float, float]:
        """Time in copies, and how much of it a kernel ran on the same device."""
        total = sum(each.total() for each in self._copies.values())
        beside = sum(
            overlap(self._kernels[device], times)
            for device, times in self._copies.items()
            if device in self._kernels
        )
        return total, beside

    def kernel_time(self) -> float:
        """Time in which a kernel ran, summed over devices."""
        return sum(each.total() for each in self._kernels.values())

    def step_time(self) -> float:
        """Time in steps, summed over threads."""
        return sum(each.total() for each in self.steps.values())

    def steps_seen(self) -> int:
        """How many steps there are: of the phases, those that come most often."""
        return max(self.num_steps.values(), default=0)

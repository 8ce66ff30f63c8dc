"""What this machine is."""

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Machine", "describe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where something was measured.

    Attributes:
        device: "cpu" or "cuda".
        cpu: model of the processor.
        num_cores: cores that this process may use.
        num_threads: threads that torch computes with.
        torch: its version.
        triton: its version, or "none".
        python: its version.
        system: name and release of the operating system, and the processor's architecture.
        load: processes that ran or wanted to, on average over the minute before.
        gpu: name of the GPU; "" where none was used.
        num_sms: its multiprocessors.
        gpu_memory_bytes: its memory.
        gpu_clocks: clocks of multiprocessors and memory, now and at most, as the driver tells them.
        cuda: version of CUDA that torch was built for.
        driver: version of the driver.
    """

    device: str
    cpu: str
    num_cores: int
    num_threads: int
    torch: str
    triton: str
    python: str
    system: str
    load: float = 0.0
    gpu: str = ""
    num_sms: int = 0
    gpu_memory_bytes: int = 0
    gpu_clocks: str = ""
    cuda: str = ""
    driver: str = ""

    @property
    def is_busy(self) -> bool:
        """Others want at least half of the cores; what is timed on the CPU suffers."""
        return self.device == "cpu" and self.load >= self.num_cores / 2

    def lines(self) -> Iterator[tuple[str, str]]:
        """What it is, as names and values."""
        counts = ((self.num_cores, "core"), (self.num_threads, "thread"))
        cores, threads = (f"{number} {name}{'s' * (number != 1)}" for number, name in counts)
        yield "cpu", f"{self.cpu}, {cores}, {threads} of torch"
        if self.gpu:
            memory = f"{self.gpu_memory_bytes / 2**30:.0f} GiB"
            yield "gpu", f"{self.gpu}, {self.num_sms} SMs, {memory}"
            yield "clocks", self.gpu_clocks or "unknown: nvidia-smi does not answer"
            yield "cuda", f"{self.cuda}, driver {self.driver or 'unknown'}"
        else:
            yield "gpu", "none used"
        busy = ": others are busy here, all times are too long" if self.is_busy else ""
        yield "load", f"{self.load:.1f} before the run{busy}"
        yield "torch", f"{self.torch}, triton {self.triton}, python {self.python}, {self.system}"


def describe(device: str) -> Machine:
    """This machine, as a run on a device sees it; before the run, which is a load itself."""
    import torch

    common = Machine(
        device=device,
        cpu=_cpu_model(),
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        num_threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        triton=_version("triton"),
        python=platform.python_version(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )
    return common if device == "cpu" else _with_gpu(common)


def _with_gpu(common: Machine) -> Machine:
    from dataclasses import replace

    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    asked = "clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,driver_version"
    sm, most_sm, memory, most_memory, driver = _nvidia_smi(asked, str(getattr(properties, "uuid", "")))
    clocks = f"SM {sm} of {most_sm} MHz, memory {memory} of {most_memory} MHz" if sm else ""
    return replace(
        common,
        gpu=properties.name,
        num_sms=properties.multi_processor_count,
        gpu_memory_bytes=properties.total_memory,
        gpu_clocks=clocks,
        cuda=str(torch.version.cuda or ""),
        driver=driver,
    )


def _nvidia_smi(asked: str, uuid: str) -> list[str]:
    """What the driver's tool answers; empty texts where it does not."""
    command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits", f"--id=GPU-{uuid}"]
    empty = [""] * (asked.count(",") + 1)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return empty
    found = [part.strip() for part in done.stdout.strip().split(",")]
    return found if len(found) == len(empty) else empty


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"

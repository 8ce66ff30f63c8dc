"""The run: limits, shapes that are left out, failures, and Ctrl-C."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pagedkv.kernels  # noqa: E402 # needs torch
from pagedkv.bench import kernels, memory  # noqa: E402
from pagedkv.bench.floors import Limits  # noqa: E402
from pagedkv.bench.limits import measure_limits  # noqa: E402
from pagedkv.bench.machine import describe  # noqa: E402
from pagedkv.bench.results import OURS, Run  # noqa: E402
from pagedkv.bench.timing import CpuTimer  # noqa: E402
from pagedkv.errors import ConfigError, KernelInputError  # noqa: E402
from tests.bench.conftest import small_cases  # noqa: E402

CPU = torch.device("cpu")
DECODE = small_cases("paged_decode")[0]


def bench(**limits: float) -> kernels.Bench:
    """A machine with made-up limits."""
    rates = {"copy_bytes_per_s": 1e10, "read_bytes_per_s": 1e10} | limits
    return kernels.Bench(CPU, describe("cpu"), Limits(flops_per_s={"fp32": 1e12}, **rates), CpuTimer(1024))


def run(*cases: Any, **more: Any) -> Run:
    """Measure some shapes, by default a decode."""
    return kernels.bench_kernels(cases or (DECODE,), bench(), seconds=0.01, **more)


def test_the_limits_of_a_machine() -> None:
    """Each is a positive rate; fp32 is always there."""
    limits = measure_limits(CPU, ["bf16"], CpuTimer(1024), num_bytes=1 << 16)

    assert min(limits.copy_bytes_per_s, limits.read_bytes_per_s) > 0
    assert list(limits.flops_per_s) == ["fp32", "bf16"]
    assert min(limits.flops_per_s.values()) > 0


def test_a_run() -> None:
    """Ours and the peer have times, and progress is told before each shape."""
    told: list[tuple[int, int]] = []

    found = run(DECODE, replace(DECODE, length=20), progress=lambda *each: told.append(each))

    assert told == [(0, 2), (1, 2)]
    assert [row.case.length for row in found.rows] == [40, 20]
    assert all(set(row.timings) == {OURS, "sdpa"} for row in found.rows)
    assert not found.num_wrong
    assert not found.is_interrupted


def test_a_shape_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is allocated, with both figures."""
    monkeypatch.setattr(kernels, "contest_of", _not_to_be_called)

    [row] = run(replace(DECODE, batch=1000, length=10_000_000)).rows

    assert row.reason.startswith("needs about ")
    assert row.reason.endswith(" GiB are free")


def test_a_shape_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor says so before; the reason names the option."""
    monkeypatch.setattr(kernels, "contest_of", _not_to_be_called)

    found = kernels.bench_kernels([DECODE], bench(copy_bytes_per_s=1.0, read_bytes_per_s=1.0), seconds=0.01)

    assert "--seconds" in found.rows[0].reason


def test_what_our_kernel_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own words, and it is no failure."""
    monkeypatch.setattr(pagedkv.kernels, "paged_decode", _raising(KernelInputError("fp8 needs sm_89")))

    found = run()

    assert (found.rows[0].reason, found.num_wrong) == ("fp8 needs sm_89", 0)


def test_a_kernel_that_fails_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers have their times all the same."""
    error = RuntimeError("\nCUDA error: an illegal memory access\nCompile with `TORCH_USE_CUDA_DSA`")
    monkeypatch.setattr(pagedkv.kernels, "paged_decode", _raising(error))

    [row] = run().rows

    assert row.wrong == {OURS: "failed: RuntimeError: CUDA error: an illegal memory access"}
    assert "sdpa" in row.timings


def test_no_memory_left_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate was too low: the shape is left out."""
    monkeypatch.setattr(kernels, "contest_of", _raising(torch.OutOfMemoryError("CUDA out of memory")))

    found = run()

    assert found.rows[0].reason.startswith("out of memory")
    assert not found.num_wrong


def test_ctrl_c_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second shape is never finished; the first is there."""
    real, calls = kernels.contest_of, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(kernels, "contest_of", interrupted)

    found = run(DECODE, DECODE, DECODE)

    assert (len(found.rows), found.planned, found.is_interrupted) == (1, 3, True)


def test_the_device() -> None:
    """The one that was asked for; a GPU that is not there is an error that says what to do."""
    assert kernels.device_named("cpu") == CPU
    if not torch.cuda.is_available():
        assert kernels.device_named(None) == CPU
        with pytest.raises(ConfigError, match=r"finds no GPU here.*use --device cpu"):
            kernels.device_named("cuda")


def test_memory() -> None:
    """There is a cache, and a larger shape needs more memory."""
    assert memory.cache_bytes(CPU) > 0
    assert memory.needed_bytes(DECODE, "cpu") < memory.needed_bytes(replace(DECODE, length=80), "cpu")


def _not_to_be_called(*_: Any) -> Any:
    raise AssertionError


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_more: Any) -> Any:
        raise error

    return fail

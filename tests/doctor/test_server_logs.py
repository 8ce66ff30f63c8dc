"""Logs of vLLM and SGLang."""

import pytest

from pagedkv.pitfalls.finding import Pitfall, Severity
from tests.doctor.conftest import Doctor, sglang_line, vllm_line

ACCESS = '(APIServer pid=1) INFO:     172.31.0.1:37016 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
PREEMPTED = (
    "WARNING 01-07 10:00:00 scheduler.py:1099] Sequence group {} is preempted by PreemptionMode.{} mode "
    "because there is not enough KV cache space. This can affect the end-to-end performance. Increase "
    "gpu_memory_utilization or tensor_parallel_size to provide more KV cache memory. "
    "total_num_cumulative_preemption={}\n"
)


def test_a_healthy_vllm_log_is_clean(doctor: Doctor) -> None:
    """A steady batch says nothing, though requests wait now and then and the pool is full."""
    found = doctor((ACCESS * 20 + vllm_line(20, 3, 98.5)) * 40)

    assert (found.exit_code, found.findings) == (0, ())
    report = found.files[0]
    assert (report.kind, report.num_read, report.num_understood) == ("vLLM log", 840, 40)


def test_a_vllm_batch_that_collapses(doctor: Doctor) -> None:
    """The first and the worst line are named, and the pool had room: prefill is what to look at."""
    found = doctor(vllm_line(40, 0) * 30 + vllm_line(12, 9) * 3 + vllm_line(5, 9) + vllm_line(40, 0))

    (finding,) = found.findings
    assert (finding.pitfall, finding.severity) == (Pitfall.BATCH_COLLAPSE, Severity.WARNING)
    assert [each.line for each in finding.sources] == [33, 34]
    assert "Running: 5 reqs" in finding.sources[1].text
    assert finding.evidence["collapsed_lines"] == 2
    assert any("--enable-chunked-prefill" in each.change for each in finding.advice)


@pytest.mark.parametrize(
    ("running", "waiting"),
    [(12, 0), (21, 9)],
    ids=["nothing waits", "more than half of the average"],
)
def test_a_smaller_batch_is_no_collapse(doctor: Doctor, running: int, waiting: int) -> None:
    """A batch shrinks for want of work, or a little, without a word."""
    assert not doctor(vllm_line(40, 0) * 30 + vllm_line(running, waiting) * 20).findings


def test_engines_are_followed_apart(doctor: Doctor) -> None:
    """A large and a small engine in one log are no batch that collapses every other line."""
    lines = vllm_line(60, 4, engine=0) + vllm_line(8, 4, engine=1)

    assert not doctor(lines * 40).findings


def test_preemptions_of_the_second_engine(doctor: Doctor) -> None:
    """Preemptions of an interval are summed, and held against what ran."""
    found = doctor(vllm_line(20, 5, 99.0, more="Preemptions: 14, ") * 25)

    (finding,) = found.findings
    assert finding.severity is Severity.CRITICAL
    assert finding.evidence["preemptions"] == 350
    assert finding.evidence["preemptions_per_running_request_and_line"] == pytest.approx(0.7)
    assert "--gpu-memory-utilization" in finding.advice[0].change


def test_few_preemptions_are_normal(doctor: Doctor) -> None:
    """One request in a hundred that loses its blocks is what a full pool costs."""
    line = vllm_line(100, 5, 99.0)

    assert not doctor(line * 40 + vllm_line(100, 5, 99.0, more="Preemptions: 12, ")).findings


def test_preemptions_of_the_first_engine(doctor: Doctor) -> None:
    """VLLM tells the running total at every fiftieth; a smaller one is that of another start."""
    told = [PREEMPTED.format(7, "RECOMPUTE", total) for total in (1, 51, 101, 1, 51)]

    found = doctor("".join(told))

    assert found.findings[0].evidence["preemptions"] == 152


def test_lines_of_the_first_engine(doctor: Doctor) -> None:
    """Pending and swapped requests are read, and swapping most of the time is a finding."""
    line = (
        "INFO 05-11 12:04:19 [metrics.py:486] Avg prompt throughput: 13.2 tokens/s, Avg generation "
        "throughput: 13.0 tokens/s, Running: 5 reqs, Swapped: {} reqs, Pending: 3 reqs, "
        "GPU KV cache usage: 97.1%, CPU KV cache usage: 40.0%.\n"
    )

    found = doctor(line.format(0) * 15 + line.format(4) * 15)

    (finding,) = found.findings
    assert (finding.pitfall, finding.evidence["swapped_ratio"]) == (Pitfall.OFFLOAD_THRASH, 0.5)
    assert finding.sources[0].line == 16


def test_a_shape_that_changes_a_little_is_read(doctor: Doctor) -> None:
    """Fields that are new do not hide the ones that are known; a line without these is counted as odd."""
    line = vllm_line(9, 1).replace("Waiting: 1 reqs", "Held: 3 reqs, Waiting: 1 reqs, New: 5")

    report = doctor(line * 3 + "Avg prompt throughput: and so on\n").files[0]

    assert (report.num_understood, report.num_odd) == (3, 1)


def test_memory_that_runs_out(doctor: Doctor) -> None:
    """A traceback is a critical finding; a prompt that quotes one is not."""
    prompt = "INFO 01-01 00:00:00 Received request 1: prompt: 'why CUDA out of memory. Tried to allocate'\n"
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 146.00 MiB. GPU 0 has 8.00 GiB. "
    in_pieces = error + "512.00 MiB is reserved by PyTorch but unallocated.\n"

    assert not doctor(prompt + vllm_line(1, 0)).findings
    (finding,) = doctor(vllm_line(1, 0) + error + "\n").findings
    assert (finding.pitfall, finding.severity) == (Pitfall.BATCH_COLLAPSE, Severity.CRITICAL)
    (finding,) = doctor(vllm_line(1, 0) + in_pieces).findings
    assert finding.pitfall is Pitfall.FRAGMENTATION
    assert finding.advice[0].change.startswith("PYTORCH_CUDA_ALLOC_CONF")


def test_a_pool_too_small_to_start(doctor: Doctor) -> None:
    """VLLM's refusal to start is a finding."""
    line = (
        "ValueError: To serve at least one request with the models's max seq len (32768), (8.00 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (4.46 GiB). Try increasing "
        "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.\n"
    )

    assert "did not start" in doctor(line).findings[0].summary


def test_kernels_compiled_while_requests_run(doctor: Doctor) -> None:
    """What vLLM says of late compilation is a latency spike."""
    line = (
        "WARNING 05-19 [jit_monitor.py:9] Triton kernel JIT compilation during inference: _k. This causes\n"
    )

    (finding,) = doctor(vllm_line(1, 0) + line * 4).findings

    assert (finding.pitfall, finding.evidence["compilations"]) == (Pitfall.LATENCY_SPIKE, 4)


def test_a_healthy_sglang_log_is_clean(doctor: Doctor) -> None:
    """A full pool and an occasional retraction are as it should be."""
    retracted = (
        "[2026-05-24 03:51:45 TP0] KV cache pool is full. Retract requests. #retracted_reqs: 1, "
        "#new_token_ratio: 0.6000 -> 0.9000\n"
    )
    prefill = (
        "[2026-05-24 03:51:45 TP0] Prefill batch. #new-seq: 1, #new-token: 512, #cached-token: 0, token\n"
    )

    found = doctor((sglang_line(30, 4, 0.97) * 9 + prefill) * 30 + retracted)

    assert (found.exit_code, found.files[0].kind) == (0, "SGLang log")
    assert found.files[0].num_understood == 301


def test_retractions(doctor: Doctor) -> None:
    """Retracted requests are held against what ran."""
    retracted = (
        "[2026-05-24 03:51:45 TP0] KV cache pool is full. Retract requests. #retracted_reqs: 3, #new\n"
    )

    (finding,) = doctor((sglang_line(10, 4, 0.99) * 2 + retracted) * 20).findings

    assert (finding.evidence["retracted_requests"], finding.severity) == (60, Severity.CRITICAL)
    assert "--schedule-conservativeness" in finding.advice[0].change


@pytest.mark.parametrize("rank", [" TP0", " DP1 TP0", ""])
def test_an_sglang_batch_that_collapses(doctor: Doctor, rank: str) -> None:
    """The collapse is found whatever stands before the line."""
    (finding,) = doctor(sglang_line(30, 0, rank=rank) * 40 + sglang_line(3, 9, 0.99, rank=rank) * 5).findings

    assert finding.evidence["collapsed_lines"] == 3
    assert finding.sources[0].line == 43
    assert "--mem-fraction-static" in finding.advice[0].change


def test_ranks_are_followed_apart(doctor: Doctor) -> None:
    """Lines of ranks that take turns are no collapse, also behind the name of a container."""
    ranks = [sglang_line(60, 4, rank=" DP0 TP0"), sglang_line(8, 4, rank=" DP1 TP0")]

    assert not doctor("".join(ranks) * 50).findings
    assert not doctor("".join(f"sglang-{n} | {line}" for n, line in enumerate(ranks)) * 50).findings


def test_decoding_without_a_graph(doctor: Doctor) -> None:
    """Batches without a CUDA graph are told where others have one; where none has, it was switched off."""
    without = sglang_line(30, 0, graph=False)

    (finding,) = doctor(sglang_line(30, 0) * 40 + without * 25).findings
    assert (finding.pitfall, finding.sources[0].line) == (Pitfall.LATENCY_SPIKE, 41)
    assert not doctor(without * 100).findings


def test_parts_of_a_log_are_one(doctor: Doctor) -> None:
    """A rotated log says the same as the whole."""
    whole = vllm_line(40, 0) * 30 + vllm_line(12, 9) * 6
    lines = whole.splitlines(keepends=True)

    found = doctor("".join(lines[:31]), "".join(lines[31:]))

    (finding,) = found.findings
    assert finding.evidence == doctor(whole).findings[0].evidence
    assert (finding.sources[0].file.endswith("1.log"), finding.sources[0].line) == (True, 2)

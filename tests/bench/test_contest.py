"""From shapes to contestants whose results are right, and planted ones whose are not."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import pagedkv.kernels  # noqa: E402 # needs torch
from pagedkv.bench.attention import AttentionCheck, AttentionProblem, ours  # noqa: E402
from pagedkv.bench.cases import ATTENTION, COPIES, KERNELS  # noqa: E402
from pagedkv.bench.contest import contest_of  # noqa: E402
from pagedkv.bench.peers import flashinfer, sdpa, vllm  # noqa: E402
from pagedkv.bench.peers.unavailable import PeerUnavailable, imported  # noqa: E402
from pagedkv.bench.results import OURS  # noqa: E402
from pagedkv.bench.timing import CpuTimer, race  # noqa: E402
from tests.bench.conftest import small_cases  # noqa: E402

CPU = torch.device("cpu")


def problem_of(kernel: str, index: int = 0) -> AttentionProblem:
    """A small problem for an attention kernel."""
    case = small_cases(kernel)[index]
    return AttentionProblem(case, CPU, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_contestant_is_right(kernel: str, dtype: str) -> None:
    """Ours and the peers of a CPU, on every kind of shape, in every dtype."""
    for case in small_cases(kernel, dtype):
        contest = contest_of(case, CPU)

        outcome = race(contest.contestants, contest.check, CpuTimer(1024), seconds=0.0)

        assert (outcome.wrong, outcome.failed) == ({}, {})
        assert set(outcome.timings) == {OURS, *(each.name for each in contest.contestants)}
        peers = {"index_put", "index_copy", "index_select"} if kernel in COPIES else {"sdpa"}
        assert peers & set(outcome.timings)


@pytest.mark.parametrize("kernel", ATTENTION)
def test_a_wrong_attention_is_found(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One output that is off by a tenth in one of four heads is no right result."""
    real = getattr(pagedkv.kernels, kernel)

    def planted(*arguments: Any, out: Any, **more: Any) -> Any:
        real(*arguments, out=out, **more)
        out[..., 1, :] *= 1.1
        return out

    monkeypatch.setattr(pagedkv.kernels, kernel, planted)
    contest = contest_of(small_cases(kernel)[0], CPU)

    outcome = race(contest.contestants, contest.check, CpuTimer(1024), seconds=0.0)

    assert outcome.wrong[OURS].startswith("wrong result: relative error 0.0")
    assert "sdpa" in outcome.timings


@pytest.mark.parametrize("kernel", COPIES)
def test_a_copy_that_is_left_out_is_found(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that moves nothing leaves what its destination was poisoned with."""
    monkeypatch.setattr(pagedkv.kernels, kernel, lambda *_arguments: None)
    contest = contest_of(small_cases(kernel)[0], CPU)

    outcome = race(contest.contestants, contest.check, CpuTimer(1024), seconds=0.0)

    assert list(outcome.wrong) == [OURS]
    assert "clone" in outcome.timings


def test_one_bit_is_enough() -> None:
    """A copy has to be equal bit by bit: the other zero is wrong."""
    contest = contest_of(small_cases("block_gather")[0], CPU)
    [expected] = contest.check.expected  # type: ignore[attr-defined] # an ExactCheck
    expected[0, 0, 0, 0, 0, 0] = 0.0
    negative = expected.clone()
    negative[0, 0, 0, 0, 0, 0] = -0.0

    assert contest.check.error([expected.clone()]) == 0.0
    assert not contest.check.error([negative]) <= contest.check.limit


def test_the_reference_is_plain_attention() -> None:
    """The last token of a chunk, written out for one head."""
    problem = problem_of("paged_prefill", index=1)
    check = AttentionCheck.of(problem)
    key, value = (problem.sequence(1, part)[1].double() for part in (0, 1))
    query = problem.query[1, -1, 3].double()

    expected = ((key @ query) * 64**-0.5).softmax(0) @ value

    assert check.rows[-1] == 2 * 16 - 1
    torch.testing.assert_close(check.expected[-1, 3], expected)


def test_an_unwritten_row_is_wrong_though_it_is_not_compared() -> None:
    """Long prompts are compared at some rows; the others have to be finite."""
    problem = problem_of("paged_prefill")
    check = AttentionCheck.of(problem)
    right = ours(problem).run()
    assert right is not None
    sampled = AttentionCheck(check.rows[:3], check.expected[:3], check.limit)

    assert sampled.error([right]) <= sampled.limit
    right[-1, 0, 0] = torch.nan
    assert sampled.error([right]) == float("inf")


def test_peers_that_are_not_there_have_reasons() -> None:
    """On a CPU only torch's attention runs, whatever is installed."""
    skipped = contest_of(small_cases("paged_decode")[0], CPU).skipped

    assert skipped["flashinfer"] == "FlashInfer runs on CUDA alone"
    assert skipped["vllm triton"] == "vLLM's Triton kernel runs on CUDA alone"
    assert skipped["flex_attention"].endswith("runs on CUDA alone")


def test_a_peer_that_is_not_installed() -> None:
    """The reason is told in a few words."""
    with pytest.raises(PeerUnavailable, match=r"^no_such_peer is not installed$"):
        imported("no_such_peer.ops")


def test_a_peer_that_will_not_load(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises while it loads is the reason."""
    (tmp_path / "broken_peer.py").write_text(
        "raise OSError('libcudart.so.13: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(PeerUnavailable, match=r"broken_peer will not load: OSError: libcudart\.so\.13"):
        imported("broken_peer")


@pytest.mark.parametrize("builder", [flashinfer.paged, vllm.paged])
def test_a_peer_that_is_missing_on_a_gpu(builder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, what is missing is the package."""
    for module in (flashinfer, vllm):
        monkeypatch.setattr(module, "require_cuda", lambda *_: None)
    monkeypatch.setitem(__import__("sys").modules, "flashinfer", None)
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    case = small_cases("paged_decode", "bf16")[0]

    with pytest.raises(PeerUnavailable, match=r"is not installed|will not load"):
        builder(AttentionProblem(case, CPU, torch.Generator()))


def test_what_a_peer_has_no_kernel_for() -> None:
    """A chunk behind context needs a causal mask that cuDNN has not."""
    with pytest.raises(PeerUnavailable, match="no causal mask"):
        sdpa.cudnn(problem_of("paged_prefill", index=1))


@pytest.mark.parametrize(("kernel", "index"), [("paged_decode", 0), ("paged_prefill", 0)])
def test_flash_attention_of_torch(kernel: str, index: int) -> None:
    """The peer that names its backend finds what is right, where a CPU has that backend."""
    problem = problem_of(kernel, index)
    contestant = sdpa.flash(problem)
    check = AttentionCheck.of(problem)

    assert check.error(contestant.outputs(contestant.run())) <= check.limit

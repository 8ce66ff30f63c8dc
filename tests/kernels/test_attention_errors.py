"""What the attention kernels cannot work on is refused before anything is launched or written."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

import torch

from pagedkv import kernels
from pagedkv.errors import ConfigError, KernelInputError
from pagedkv.kernels import SharedPrefixes, Workspace
from pagedkv.kernels.debugging import checking_contents
from pagedkv.kernels.dispatch import Backend
from pagedkv.kernels.launch import Target
from pagedkv.kernels.paged_decode import gpu
from pagedkv.kv_store import FP8_DTYPE
from tests.kernels.batches import Batch
from tests.kernels.pools import BACKENDS, calling, device_of

FIELDS = ("query", "kv", "block_tables", "seq_lens", "out", "options", "query_starts")


def fields(batch: Batch) -> dict[str, Any]:
    """What a call is made of, to be changed."""
    return {name: getattr(batch, name) for name in FIELDS}


def call(kernel: str, backend: Backend, given: dict[str, Any], **more: Any) -> None:
    """Call the kernel; the output must not change if it refuses."""
    query, kv, tables, lens = (given[name] for name in FIELDS[:4])
    head = (query, given["query_starts"]) if kernel == "paged_prefill" else (query,)
    prefixes = (more.pop("prefixes"),) if kernel == "paged_decode_shared" else ()
    out = given["out"]
    out.fill_(7)
    with calling(backend):
        try:
            getattr(kernels, kernel)(*head, kv, tables, lens, *prefixes, given["options"], out=out, **more)
        finally:
            assert (out == 7).all()


def batch_for(kernel: str, backend: Backend) -> Batch:
    """Two sequences, of 20 and 5 tokens."""
    query_lens = (4, 2) if kernel == "paged_prefill" else 1
    return Batch((20, 5), query_lens, heads=(4, 2), device=device_of(backend))


Change = Callable[[dict[str, Any]], dict[str, Any]]

BAD: dict[str, tuple[Change, str]] = {
    "query in integers": (lambda g: {"query": g["query"].int()}, r"query is torch.int32; it must be one of"),
    "other dtype of kv": (lambda g: {"kv": g["kv"].half()}, r"query is torch.float32 and kv torch.float16"),
    "kv with four axes": (lambda g: {"kv": g["kv"][0]}, r"kv has the shape \[2, 2, 16, 64\]"),
    "kv transposed": (lambda g: {"kv": g["kv"].transpose(3, 4)}, r"head_dim elements must be contiguous"),
    "other head_dim": (lambda g: {"kv": g["kv"][..., :32]}, r"heads of 64 elements and kv of 32"),
    "heads that do not divide": (
        lambda g: {"query": g["query"][..., :3, :].contiguous(), "out": g["out"][..., :3, :].contiguous()},
        r"3 query heads cannot share 2 KV heads",
    ),
    "other shape of out": (lambda g: {"out": g["out"][..., :2, :]}, r"out is .* and query .*must match"),
    "expanded out": (
        lambda g: {"out": g["out"][:1].expand_as(g["out"])},
        r"out has the strides .*it was expanded",
    ),
    "no KV heads": (lambda g: {"kv": g["kv"][:, :, :0]}, r"kv has the shape \[.*, 2, 0, 16, 64\]"),
    "other device of kv": (lambda g: {"kv": g["kv"].to("meta")}, r"kv is on meta and query on"),
    "64-bit table": (lambda g: {"block_tables": g["block_tables"].long()}, r"block_tables is torch.int64"),
    "64-bit lengths": (lambda g: {"seq_lens": g["seq_lens"].long()}, r"seq_lens is torch.int64"),
    "table of one axis": (lambda g: {"block_tables": g["block_tables"][0]}, r"must be \[batch, max_blocks\]"),
    "too few lengths": (lambda g: {"seq_lens": g["seq_lens"][:1]}, r"\[1\] for 2 rows of block_tables"),
    "table with gaps": (
        lambda g: {"block_tables": g["block_tables"][:, ::2]},
        r"block_tables has the strides",
    ),
    "scales without fp8": (
        lambda g: {"options": kernels.AttentionOptions(scale=1.0, k_scale=2.0)},
        r"scales 2.0 and 1.0 with kv in torch.float32",
    ),
    "sinks of another shape": (
        lambda g: {"options": kernels.AttentionOptions(scale=1.0, sinks=torch.zeros(3))},
        r"\[3\]; it must be contiguous torch.float32 \[num_query_heads = 4\]",
    ),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kernel", ["paged_decode", "paged_prefill"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_tensors(backend: Backend, kernel: str, bad: str) -> None:
    """The message says what is wrong, with the numbers."""
    change, message = BAD[bad]
    given = fields(batch_for(kernel, backend))
    with pytest.raises(KernelInputError, match=message):
        call(kernel, backend, given | change(given))


def test_query_of_another_shape() -> None:
    """Decode has four axes, prefill three."""
    for kernel in ("paged_decode", "paged_prefill"):
        given = fields(batch_for(kernel, "cpu"))
        with pytest.raises(KernelInputError, match="query has the shape"):
            call(kernel, "cpu", given | {"query": given["query"][0]})


def test_starts_and_split_sizes() -> None:
    """One start more than sequences; a split of a token at least."""
    given = fields(batch_for("paged_prefill", "cpu"))
    with pytest.raises(KernelInputError, match=r"query_starts has the shape \[2\] for 2 sequences"):
        call("paged_prefill", "cpu", given | {"query_starts": given["query_starts"][:2]})
    given = fields(batch_for("paged_decode", "cpu"))
    for wrong in (0, 2.5):
        with pytest.raises(KernelInputError, match=f"split_size is {wrong}"):
            call("paged_decode", "cpu", given, split_size=wrong)


@pytest.mark.parametrize("kernel", ["paged_decode", "paged_prefill"])
def test_a_workspace_elsewhere(kernel: str) -> None:
    """Scratch memory is on the tensors' device."""
    given = fields(batch_for(kernel, "cpu"))
    with pytest.raises(KernelInputError, match="workspace is on meta and query on cpu"):
        call(kernel, "cpu", given, workspace=Workspace("meta"))


@pytest.mark.parametrize("kernel", ["paged_decode", "paged_prefill", "paged_decode_shared"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_there_are_no_gradients(backend: Backend, kernel: str) -> None:
    """Parameters may be passed; no call leaves a graph behind."""
    batch = batch_for(kernel, backend)
    given = fields(batch) | {"query": batch.query.clone().requires_grad_()}
    prefixes = (batch.prefixes([1, 1], [1, 0]),) if kernel == "paged_decode_shared" else ()
    head = (given["query"], given["query_starts"]) if kernel == "paged_prefill" else (given["query"],)
    tensors = (given["kv"], given["block_tables"], given["seq_lens"])
    with calling(backend):
        out = getattr(kernels, kernel)(*head, *tensors, *prefixes, given["options"], out=given["out"])
    assert not out.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0; it must be a positive"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": True}, "scale is True"),
        ({"scale": None}, "scale is None"),
        ({"scale": 1.0, "sliding_window": 0}, "sliding_window is 0"),
        ({"scale": 1.0, "sliding_window": 2.5}, "sliding_window is 2.5; it must be a positive int"),
        ({"scale": 1.0, "soft_cap": -3.0}, "soft_cap is -3.0"),
        ({"scale": 1.0, "k_scale": float("inf")}, "k_scale is inf"),
    ],
)
def test_bad_options(options: dict[str, float], message: str) -> None:
    """Refused when they are made."""
    with pytest.raises(ConfigError, match=message):
        kernels.AttentionOptions(**options)


class TestForTheGPU:
    """What only the Triton kernels ask for; the launcher checks it on any device."""

    def launches(self, arch: int = 90, **changes: Any) -> None:
        """Describe a decode."""
        given = fields(Batch((20, 5), heads=(4, 2), dtype=torch.float16)) | changes
        query, kv, tables, lens = (given[name] for name in FIELDS[:4])
        options = {"out": given["out"], "workspace": None, "target": Target(arch, 100)}
        options["split_size"] = changes.get("split_size")
        gpu.launches(query, kv, tables, lens, given["options"], **options)

    def test_sizes(self) -> None:
        """Heads and blocks of other sizes than those that are compiled."""
        with pytest.raises(KernelInputError, match="head_dim is 48; the GPU kernels take 64, 80"):
            self.launches(kv=torch.zeros(4, 2, 2, 16, 48, dtype=torch.float16))
        with pytest.raises(KernelInputError, match="block_size is 12; the GPU kernels take 8, 16"):
            self.launches(kv=torch.zeros(4, 2, 2, 12, 64, dtype=torch.float16))

    def test_fp8_before_ada(self) -> None:
        """sm_80 has no instruction for it."""
        kv = torch.zeros(4, 2, 2, 16, 64).to(FP8_DTYPE)
        self.launches(89, kv=kv)
        with pytest.raises(KernelInputError, match="sm_80 cannot convert it"):
            self.launches(80, kv=kv)

    def test_architectures_before_ampere(self) -> None:
        """They lack what the kernels are made of."""
        with pytest.raises(KernelInputError, match="the GPU is sm_75; the kernels need sm_80 or later"):
            self.launches(75)

    def test_more_splits_than_a_launch_has(self) -> None:
        """A grid has 65535 programs along its second axis."""
        tables = torch.empty(2, 300_000, dtype=torch.int32, device="meta")
        with pytest.raises(KernelInputError, match=r"in splits of 64 are 75000 splits, .* raise split_size"):
            self.launches(block_tables=tables, split_size=1)

    def test_batch(self) -> None:
        """A grid has 65535 programs along its third axis."""
        shape = {"query": (65536, 1, 4, 64), "out": (65536, 1, 4, 64)}
        many = {name: torch.empty(size, dtype=torch.float16, device="meta") for name, size in shape.items()}
        tables = torch.empty(65536, 3, dtype=torch.int32, device="meta")
        with pytest.raises(KernelInputError, match="65536 sequences in one call; a launch takes 65535"):
            self.launches(**many, block_tables=tables, seq_lens=tables[:, 0])

    def test_alignment(self) -> None:
        """A pool that begins off a 16-byte boundary, and rows that do."""
        flat = torch.zeros(4 * 2 * 2 * 16 * 64 + 1, dtype=torch.float16)
        with pytest.raises(KernelInputError, match="kv begins at an address that is no multiple of 16 bytes"):
            self.launches(kv=flat[1:].view(4, 2, 2, 16, 64))
        rows = torch.zeros(4, 2, 2, 16, 68, dtype=torch.float16)[..., :64]
        with pytest.raises(KernelInputError, match=r"kv has the strides .*multiples of 16 elements"):
            self.launches(kv=rows)

    def test_a_device_without_kernels(self) -> None:
        """Neither CPU nor CUDA."""
        given = {name: getattr(Batch((20, 5)), name) for name in FIELDS}
        moved = {name: given[name].to("meta") for name in FIELDS if name != "options"}
        with pytest.raises(KernelInputError, match="there are no kernels for meta"):
            kernels.paged_decode(*(moved[name] for name in FIELDS[:4]), given["options"], out=moved["out"])


@pytest.mark.parametrize("backend", BACKENDS)
class TestContents:
    """Checked only if asked for."""

    @pytest.mark.parametrize("kernel", ["paged_decode", "paged_prefill"])
    def test_table_entries_out_of_range(self, backend: Backend, kernel: str) -> None:
        """The entry is named; entries that no token reaches do not matter."""
        given = fields(batch_for(kernel, backend))
        given["block_tables"][1, 1] = 99
        with checking_contents():
            for wrong in (-1, given["kv"].shape[0]):
                given["block_tables"][0, 1] = wrong
                with pytest.raises(KernelInputError, match=rf"block_tables\[0, 1\] is {wrong}; .* 20 tokens"):
                    call(kernel, backend, given)

    @pytest.mark.parametrize("kernel", ["paged_decode", "paged_prefill"])
    def test_lengths_longer_than_the_table(self, backend: Backend, kernel: str) -> None:
        """And negative ones."""
        given = fields(batch_for(kernel, backend))
        with checking_contents():
            for wrong in (-1, 49):
                given["seq_lens"][1] = wrong
                with pytest.raises(KernelInputError, match=rf"seq_lens\[1\] is {wrong}; a row of 3 blocks"):
                    call(kernel, backend, given)

    def test_starts(self, backend: Backend) -> None:
        """They rise from 0 to the number of tokens, and no chunk is longer than its sequence."""
        given = fields(batch_for("paged_prefill", backend))
        with checking_contents():
            for starts in ([1, 4, 6], [0, 4, 7], [0, 7, 6]):
                given["query_starts"].copy_(torch.tensor(starts))
                with pytest.raises(KernelInputError, match="it must rise from 0, to the 6 query"):
                    call("paged_prefill", backend, given)
            given["query_starts"].copy_(torch.tensor([0, 0, 6]))
            with pytest.raises(
                KernelInputError, match=r"sequence 1 has 6 query tokens and seq_lens\[1\] is 5"
            ):
                call("paged_prefill", backend, given)

    def test_prefixes(self, backend: Backend) -> None:
        """Groups, lengths and tables agree."""
        batch = Batch((40, 40, 40), shared=2, device=device_of(backend))
        right = batch.prefixes([2, 1], [2, 0])

        def refused(message: str, **changes: Any) -> None:
            parts = {name: getattr(right, name) for name in ("group_starts", "prefix_lens", "max_group_size")}
            with checking_contents(), pytest.raises(KernelInputError, match=message):
                call(
                    "paged_decode_shared", backend, fields(batch), prefixes=SharedPrefixes(**parts | changes)
                )

        def ints(*numbers: int) -> torch.Tensor:
            return torch.tensor(numbers, dtype=torch.int32, device=device_of(backend))

        refused("group_starts is .*it must rise from 0 to the 3 sequences", group_starts=ints(0, 2, 4))
        refused("a group has 2 sequences and max_group_size is 1", max_group_size=1)
        refused(r"prefix_lens\[1\] is 16; it must equal prefix_lens\[0\] = 32", prefix_lens=ints(32, 16, 0))
        refused(r"prefix_lens\[0\] is 20; .* multiple of 16", prefix_lens=ints(20, 20, 0))
        batch.block_tables[1, 1] = batch.block_tables[1, 2]
        refused("the first 2 blocks of sequences 0 and 1 differ")
        refused("max_group_size is 0", max_group_size=0)
        refused("there are 3 sequences and no group", group_starts=ints(0))
        refused("must be contiguous torch.int32", prefix_lens=right.prefix_lens.long())
        refused(r"must be \[num_groups \+ 1\] and \[batch\]", prefix_lens=right.prefix_lens[:2])

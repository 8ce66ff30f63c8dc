"""Files of any kind and state: what is read, what is refused, and how both are said."""

import gzip
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.doctor import diagnose
from pagedkv.doctor.chunks import LONGEST_LINE, ChunkCutter
from pagedkv.doctor.seen import Seen
from pagedkv.pitfalls.finding import Source
from tests.doctor.conftest import Doctor, sglang_line, vllm_line

COLLAPSE = vllm_line(40, 0) * 30 + vllm_line(12, 9) * 6
FRAGMENTS = st.sampled_from(
    [
        vllm_line(30, 2).encode(),
        sglang_line(3, 9).encode(),
        b"[Allocator] Free blocks: 1 / 9\n[Allocator] Fragmentation: 0.99\n",
        b"[Scheduler] Batch size reduced: 64 ",
        b"#retracted_reqs: ",
        b" is preempted by ",
        b"CUDA out of memory",
        b'{"traceEvents": [{"ph": "X", "cat": "kernel", "ts": 1, "dur": 2, "name": "k"}, ',
        b'{"schema_version": 1, "pool": {',
        b"SQLite format 3\0",
        b"\x1f\x8b\x08\0",
        b"\xff\xfe",
        b"\n",
        b"\0",
        b"]}",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.binary(max_size=40)), max_size=12).map(b"".join))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever is in a file, the answer is one of three exit codes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(data)

        found = diagnose([str(path)])

    assert found.exit_code in (0, 1, 2)
    assert bool(found.files[0].error) == (found.files[0].kind == "")


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_cuts_do_not_matter(sizes: list[int], random: object) -> None:
    """Blocks of any size give the same lines with the same numbers."""
    lines = [b"x" * (number % 97) + b"!%d" % number for number in range(400)]
    data = b"\n".join(lines)
    blocks, at = [], 0
    for size in sizes:
        blocks.append(data[at : at + size])
        at += size
    blocks.append(data[at:])

    cutter = ChunkCutter("f")
    found = [
        chunk.source_at(position)
        for chunk in cutter.chunks(blocks)
        for position in range(len(chunk.data))
        if chunk.data[position : position + 1] == b"!"
    ]

    assert found == [Source("f", number + 1, line.decode()) for number, line in enumerate(lines)]
    assert cutter.num_lines == len(lines)


def test_a_line_without_an_end_takes_little_memory() -> None:
    """Of a line of a gigabyte only the beginning is kept; the lines behind it keep their numbers."""
    cutter = ChunkCutter("f")
    blocks = (b"y" * 2**20 for _ in range(64))

    def all_of_them() -> Iterator[bytes]:
        yield b"first\nbegins"
        yield from blocks
        yield b"\nlast !\n"

    chunks = list(cutter.chunks(all_of_them()))

    assert max(len(chunk.data) for chunk in chunks) <= 2 * LONGEST_LINE
    assert chunks[-1].source_at(chunks[-1].data.index(b"!")) == Source("f", 3, "last !")
    assert (cutter.num_lines, cutter.num_long) == (3, 1)


@pytest.mark.parametrize(
    "changed",
    [
        COLLAPSE.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + COLLAPSE.encode(),
        COLLAPSE.encode("utf-16"),
        b"\xff\xfe" + COLLAPSE.encode("utf-16-le"),
        gzip.compress(COLLAPSE.encode()),
        gzip.compress(COLLAPSE[:3000].encode()) + gzip.compress(COLLAPSE[3000:].encode()),
        COLLAPSE.replace("Engine", "\0\xe9Engine").encode("latin-1"),
        COLLAPSE.replace("(API", "\x1b[1;36m(API").replace("3646)", "3646)\x1b[0;0m").encode(),
    ],
    ids=["crlf", "bom", "utf-16", "utf-16-le", "gzip", "gzip members", "mixed", "colours"],
)
def test_encodings(doctor: Doctor, changed: bytes) -> None:
    """The same lines in another dress say the same."""
    found = doctor(changed)

    assert found.findings[0].evidence == doctor(COLLAPSE).findings[0].evidence
    assert [each.line for each in found.findings[0].sources] == [33]
    assert "\x1b" not in found.findings[0].sources[0].text


def test_a_gzip_that_ends_early(doctor: Doctor) -> None:
    """What there is of it counts, and that it is not all is said."""
    lines = "".join(f"{number}{vllm_line(5, 0)}" for number in range(20_000))

    found = doctor(gzip.compress(lines.encode())[:-2000])

    assert found.exit_code == 0
    assert "ends early" in found.files[0].notes[-1]
    assert 0 < found.files[0].num_understood < 20_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"Jan 1 sshd[1]: Accepted\nJan 2 sshd[1]: Accepted\n", "no line of 2 matched"),
        (bytes(range(256)) * 100, "not a log of pagedkv, vLLM or SGLang"),
        (b"\x1f\x8b\x08garbage", "gzip data ends early or is damaged"),
        (b"SQLite format 3\0" + b"x" * 100, "sqlite database that cannot be read"),
        (gzip.compress(b"SQLite format 3\0", mtime=0), "unpacked"),
        (b'{"schema_version": 7, "pool": {}}', "version 7; this pagedkv reads version 1"),
        (b'{"schema_version": 1, "pool": {', "begins as a JSON object, and is none"),
        (b'{"mode": "fcfs", "requests": 3}', "neither a snapshot of an engine, nor the record of a run"),
        (b'{"traceEvents": []}', "without a single event"),
    ],
)
def test_what_cannot_be_read_is_said(doctor: Doctor, content: bytes, reason: str) -> None:
    """A file that is none of ours is refused with the reason, and the exit code is 2."""
    found = doctor(content)

    assert found.exit_code == 2
    assert reason in found.files[0].error


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    """A name that is no file is refused likewise."""
    found = diagnose([str(tmp_path), str(tmp_path / "none"), "a\0b"])

    assert [each.error.split(";")[0] for each in found.files][:2] == [
        "it is a folder",
        "there is no such file",
    ]
    assert found.exit_code == 2


def test_one_readable_file_decides(doctor: Doctor) -> None:
    """Files that cannot be read do not hide what the others say, nor that they say nothing."""
    assert doctor(b"", COLLAPSE).exit_code == 1
    assert doctor(b"", vllm_line(1, 0)).exit_code == 0


def test_json_lines_are_a_log(doctor: Doctor) -> None:
    """A container's log of JSON objects, one a line, is read as a log."""
    line = json.dumps({"log": vllm_line(5, 0).strip(), "mode": "x"}) + "\n"

    assert doctor(line * 3).files[0].num_understood == 3


def test_only_two_places_are_kept() -> None:
    """However often something is seen, the first place and the worst are kept."""
    seen = Seen()
    for number in range(1000):
        seen.note(lambda at: Source("f", at, ""), number, float(number % 700))

    assert [each.line for each in seen.sources] == [0, 699]
    assert (seen.count, seen.worst) == (1000, 699.0)

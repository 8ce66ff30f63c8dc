"""What the compiler says of kernels, as `pagedkv baselines` reads and changes it."""

import json

import pytest

from pytest_pagedkv.baselines.schema import KERNELS, Entry, render
from tests.baselines.conftest import PASSED, Project, key

FILE = "tests/perf/test_kernels.py"
DECODE, PREFILL = (key(f"compiled[{name}-sm_90]", FILE) for name in ("decode", "prefill"))
HOPPER, OTHER = "sm_90_triton3.7", "sm_90_triton3.9"
LEAN = {"registers": 106, "wide_loads": 32}
HUNGRY = {"registers": 168, "wide_loads": 16}


@pytest.fixture
def kernels(project: Project) -> Project:
    """The project, with two kernels in its second commit."""
    _store(project, HOPPER, {DECODE: Entry(LEAN), PREFILL: Entry(LEAN, "a larger tile")})
    project.write(FILE, "")
    project.commit("kernels")
    return project


def _store(project: Project, toolchain: str, entries: dict[str, Entry]) -> None:
    project.write(f"perf_baselines/kernels/{toolchain}.json", render(entries, KERNELS))


def _stored(project: Project, toolchain: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(project.read(f"perf_baselines/kernels/{toolchain}.json"))[
        "benchmarks"
    ]
    return found


def test_list(kernels: Project) -> None:
    """Under their toolchain."""
    _store(kernels, OTHER, {DECODE: Entry(LEAN)})

    lines = kernels.baselines("list").stdout.splitlines()

    at = lines.index("kernels sm_90_triton3.7   2 benchmarks")
    assert lines[at + 1 : at + 6] == [
        " tests/perf/test_kernels.py",
        "   test_compiled[decode-sm_90]   2 counters",
        "   test_compiled[prefill-sm_90]  2 counters",
        "     reason: a larger tile",
        "kernels sm_90_triton3.9   1 benchmark",
    ]


def test_diff_of_commits(kernels: Project) -> None:
    """Which way is good is known of registers and loads; toolchains are told apart."""
    _store(kernels, HOPPER, {DECODE: Entry(HUNGRY), PREFILL: Entry(LEAN, "a larger tile")})
    _store(kernels, OTHER, {DECODE: Entry(LEAN)})

    found = kernels.json("diff")["changes"]

    assert [(each["environment"], each["change"]) for each in found] == [(HOPPER, "worse"), (OTHER, "new")]
    assert {move["name"]: move["verdict"] for move in found[0]["moves"]} == {
        "registers": "worse",
        "wide_loads": "worse",
    }


def test_diff_with_a_run(kernels: Project) -> None:
    """A run knows the kernels of its toolchain, and says nothing of others."""
    _store(kernels, OTHER, {DECODE: Entry(LEAN)})
    kernels.commit()
    kernels.ran({DECODE: {"counters": HUNGRY, "toolchain": HOPPER}})

    found = kernels.json("diff", "HEAD", ".pagedkv-perf/run.json")

    assert [(each["environment"], each["benchmark"]) for each in found["changes"]] == [(HOPPER, DECODE)]


def test_accept(kernels: Project) -> None:
    """One line of the file of the run's toolchain, with the reason."""
    failed = {"outcomes": PASSED | {"call": "failed"}, "failed_gate": True, "toolchain": HOPPER}
    kernels.ran({DECODE: {"counters": HUNGRY, **failed}, PREFILL: {"counters": HUNGRY, **failed}})

    accepted = kernels.baselines("accept", DECODE, "--reason=twice the tile")

    assert accepted.code == 0
    assert "stored in perf_baselines/kernels/sm_90_triton3.7.json" in accepted.stdout
    assert _stored(kernels, HOPPER) == {
        DECODE: {"counters": HUNGRY, "reason": "twice the tile"},
        PREFILL: {"counters": LEAN, "reason": "a larger tile"},
    }


def test_accept_of_another_toolchain(kernels: Project) -> None:
    """What was incomparable is recorded beside what is stored, and needs no reason."""
    about = {"verdict": "incomparable", "details": ["stored for sm_90_triton3.7"], "toolchain": OTHER}
    kernels.ran({DECODE: {"counters": HUNGRY, **about}})

    assert kernels.baselines("accept", "--all").code == 0

    assert _stored(kernels, OTHER) == {DECODE: {"counters": HUNGRY}}
    assert list(_stored(kernels, HOPPER)) == [DECODE, PREFILL]


@pytest.mark.parametrize("toolchain", ["../../elsewhere", 3, "", "a b"])
def test_a_toolchain_that_names_no_file_is_refused(kernels: Project, toolchain: object) -> None:
    """A run file may come from anywhere, and a toolchain becomes a file name."""
    kernels.ran({DECODE: {"counters": HUNGRY, "toolchain": toolchain}})

    assert "is damaged: the toolchain of" in kernels.fails("accept", "--all")


def test_prune(kernels: Project) -> None:
    """Kernels whose test file is gone are dropped from every toolchain's file, and an empty file goes."""
    _store(kernels, OTHER, {DECODE: Entry(LEAN), key("a", "tests/perf/test_pool.py"): Entry(LEAN)})
    (kernels.path / FILE).unlink()

    assert kernels.baselines("prune").code == 0

    assert not (kernels.path / f"perf_baselines/kernels/{HOPPER}.json").exists()
    assert list(_stored(kernels, OTHER)) == [key("a", "tests/perf/test_pool.py")]


def test_another_kind_is_refused(kernels: Project) -> None:
    """A file of counters in the place of one of kernels."""
    kernels.write(f"perf_baselines/kernels/{HOPPER}.json", render({DECODE: Entry(LEAN)}))

    assert "kind is 'counters', and this place is for 'kernels'" in kernels.fails("list")

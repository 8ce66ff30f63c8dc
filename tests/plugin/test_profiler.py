"""What a profiler sees of a run: a small one, which NVTX loads as it would load Nsight Systems."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.plugin.conftest import Project

PROFILER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As NVTX 3 lays them out: nvtx3/nvtxDetail/nvtxTypes.h and nvtx3/nvToolsExt.h. */
typedef void (*function)(void);
typedef struct { size_t size; int (*module_functions)(int, function ***, unsigned *); } callbacks;
typedef struct {
    uint16_t version, size;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const char *message;
} event;
enum { CALLBACKS = 1, CORE2 = 5, PUSH = 4, POP = 5, REGISTER_STRING = 10, CREATE_DOMAIN = 12 };
enum { ASCII = 1, REGISTERED = 3 };

static void note(const char *what, const void *domain, const char *message) {
    FILE *file = fopen(getenv("NOTES"), "a");
    fprintf(file, "%d\t%s\t%s\t%s\n", (int)getpid(), what, domain ? (const char *)domain : "", message);
    fclose(file);
}
static void *create_domain(const char *name) { return strdup(name); }
static void *register_string(void *domain, const char *text) { return strdup(text); }
static int push(void *domain, const event *what) {
    int is_text = what->message_type == ASCII || what->message_type == REGISTERED;
    note("push", domain, is_text ? what->message : "?");
    return 0;
}
static int pop(void *domain) { note("pop", domain, ""); return 0; }

int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t)) {
    const callbacks *table = export_table(CALLBACKS);
    function **functions;
    unsigned size;
    if (!table || !table->module_functions(CORE2, &functions, &size)) return 0;
    *functions[PUSH] = (function)push;
    *functions[POP] = (function)pop;
    *functions[REGISTER_STRING] = (function)register_string;
    *functions[CREATE_DOMAIN] = (function)create_domain;
    return 1;
}
"""
TIMED = """
import pytest

@pytest.mark.pagedkv_perf
def test_ranges(pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, setup=lambda: None, rounds=3)

@pytest.mark.pagedkv_perf(metric="wall")
def test_waits(pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, setup=lambda: None, rounds=2)
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the profiler writes what it sees of the processes that are started."""
    pytest.importorskip("nvtx")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the profiler with")
    source, library = tmp_path / "profiler.c", tmp_path / "profiler.so"
    source.write_text(PROFILER)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    monkeypatch.setenv("NVTX_INJECTION64_PATH", str(library))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes.tsv"))
    return tmp_path / "notes.tsv"


def test_a_profiler_sees_benchmarks_and_their_rounds(project: Project, notes: Path) -> None:
    """Each benchmark is a range in the domain "pagedkv", with one for each round in it, properly nested."""
    project.write("test_ranges.py", TIMED)

    project.is_apart = True  # NVTX loads a profiler once in a process
    assert project.perf().ret == 0

    rows = [line.split("\t") for line in notes.read_text().splitlines()]
    assert {domain for _, _, domain, _ in rows} == {"pagedkv"}
    inside = rounds_of(rows)
    assert set(inside) == {"test_ranges.py::test_ranges", "test_ranges.py::test_waits"}
    assert inside["test_ranges.py::test_ranges"].count("round") >= 3
    assert inside["test_ranges.py::test_ranges"].count("reference") == 3
    assert set(inside["test_ranges.py::test_waits"]) == {"round"}


def rounds_of(rows: list[list[str]]) -> dict[str, list[str]]:
    """The ranges directly inside each outermost range."""
    found: dict[str, list[str]] = {}
    open_ranges: list[str] = []
    for _, what, _, message in rows:
        if what == "pop":
            open_ranges.pop()
            continue
        if open_ranges:
            found[open_ranges[-1]].append(message)
        else:
            found[message] = []
        open_ranges.append(message)
    assert open_ranges == []
    return found

"""A small profiler, which NVTX loads as it would load Nsight Systems: it writes down what it is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["PROFILER", "built_profiler"]

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


def built_profiler(folder: Path) -> dict[str, str]:
    """Environment variables under which a process is profiled, into `folder / "notes.tsv"`.

    A row has the process, "push" or "pop", the domain and the message.
    """
    pytest.importorskip("nvtx")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the profiler with")
    source, library = folder / "profiler.c", folder / "profiler.so"
    source.write_text(PROFILER)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    return {"NVTX_INJECTION64_PATH": str(library), "NOTES": str(folder / "notes.tsv")}

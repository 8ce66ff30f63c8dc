"""What Triton compiles while something runs."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="models need torch; torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from triton import knobs

from pagedkv.models.compile_watch import CompileWatch


def compiles(number: int = 1) -> list[Any]:
    """What Triton's launcher does around each compilation; what the hooks before it answer."""
    answers = []
    for _ in range(number):
        if (hook := knobs.runtime.jit_cache_hook) is not None:
            answers.append(hook(key="k", is_manual_warmup=False))
        if (hook := knobs.runtime.jit_post_compile_hook) is not None:
            hook(key="k", is_manual_warmup=False)
    return answers


def test_compilations_are_counted_while_it_watches() -> None:
    """Inside, from 0 each time; outside nothing is hooked."""
    watch = CompileWatch()
    compiles()
    with watch:
        compiles(3)
    compiles()
    assert watch.num_kernels == 3
    assert watch.duration_ns > 0
    with watch:
        pass
    assert (watch.num_kernels, watch.duration_ns) == (0, 0)


def test_hooks_of_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are called with the same arguments, their answer counts, and they are back afterwards."""
    seen: list[dict[str, Any]] = []

    def hook(**about: Any) -> bool:
        seen.append(about)
        return True

    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", hook)
    with CompileWatch():
        assert compiles() == [True]
    assert seen == [{"key": "k", "is_manual_warmup": False}]
    assert knobs.runtime.jit_cache_hook is hook
    assert knobs.runtime.jit_post_compile_hook is None

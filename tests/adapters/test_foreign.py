"""The adapters of foreign engines, where the engine is missing and where it is not."""

import builtins
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pytest_pagedkv.adapters
from pytest_pagedkv.adapter import KVCacheAdapter, OutOfBlocks
from pytest_pagedkv.adapters import findings
from pytest_pagedkv.adapters.nano_vllm import NanoVLLMForkAdapter
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests
from pytest_pagedkv.conformance.cache.known import replay

ADAPTERS = {
    "vllm": "VLLMAdapter",
    "transformers": "TransformersAdapter",
    "sglang": "SGLangRadixAdapter",
    "nano_vllm": "NanoVLLMAdapter",
    "mini_sglang": "MiniSGLangAdapter",
}
FOLDER = Path(pytest_pagedkv.adapters.__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance_peers.md"

every_adapter = pytest.mark.parametrize("module", ADAPTERS)


def adapter_of(module: str) -> type[KVCacheAdapter]:
    """The adapter class of a module."""
    adapter: type[KVCacheAdapter] = getattr(
        import_module(f"pytest_pagedkv.adapters.{module}"), ADAPTERS[module]
    )
    return adapter


@pytest.fixture(params=[*ADAPTERS, "nano_vllm fork"])
def make(request: pytest.FixtureRequest) -> type[KVCacheAdapter]:
    """Makes caches of an engine that is installed."""
    is_fork = request.param == "nano_vllm fork"
    adapter: type[KVCacheAdapter] = NanoVLLMForkAdapter if is_fork else adapter_of(request.param)
    if reason := adapter.unavailable():
        pytest.skip(f"{adapter.__name__}: {reason}")
    return adapter


@every_adapter
def test_an_adapter_is_short(module: str) -> None:
    """A file has fewer than 120 lines."""
    assert len((FOLDER / f"{module}.py").read_text().splitlines()) < 120


@every_adapter
def test_an_adapter_imports_without_its_engine(module: str) -> None:
    """Importing the module imports no engine and no torch."""
    code = (
        f"import sys, pytest_pagedkv.adapters.{module}\n"
        "engines = {'torch', 'vllm', 'transformers', 'sglang', 'nanovllm', 'minisgl'}\n"
        "raise SystemExit(str(sorted(engines & set(sys.modules))) if engines & set(sys.modules) else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@every_adapter
def test_an_adapter_is_available_or_says_why_not(module: str) -> None:
    """The reason is a sentence that names something, and the same when it is asked again."""
    reason = adapter_of(module).unavailable()

    assert reason == "" or len(reason.split()) >= 3
    assert adapter_of(module).unavailable() == reason


def test_blocks_are_conserved(make: type[KVCacheAdapter]) -> None:
    """A prompt takes its blocks, a twin shares the full ones, and everything comes home."""
    cache = make(8, 2)

    cache.admit(0, [1, 2, 3, 4, 5])
    assert len(cache.block_table(0)) == 3
    assert cache.num_free_blocks() == cache.usable_blocks - 3
    assert cache.admit(1, [1, 2, 3, 4, 5]).num_cached_tokens == 4
    assert list(cache.block_table(1))[:2] == list(cache.block_table(0))[:2]
    assert cache.num_free_blocks() == cache.usable_blocks - 4
    cache.append(1, [6, 7])
    assert len(cache.block_table(1)) == 4
    cache.release(0)
    cache.release(1)
    assert cache.num_free_blocks() == cache.usable_blocks


def test_a_prompt_that_does_not_fit_is_refused(make: type[KVCacheAdapter]) -> None:
    """The refusal is OutOfBlocks, and leaves nothing behind."""
    cache = make(8, 2)
    cache.admit(0, [1, 2, 3])
    free = cache.num_free_blocks()

    with pytest.raises(OutOfBlocks):
        cache.admit(1, [1, 2, *range(100, 120)])
    with pytest.raises(OutOfBlocks):
        cache.append(0, range(200, 220))

    assert cache.num_free_blocks() == free
    assert len(cache.block_table(0)) == 2
    with pytest.raises(KeyError):
        cache.block_table(1)


def test_ids_are_checked(make: type[KVCacheAdapter]) -> None:
    """An unknown id is a KeyError and a taken one a ValueError."""
    cache = make(8, 2)
    cache.admit(0, [1, 2, 3])

    for refused in (
        lambda: cache.append(1, [1]),
        lambda: cache.release(1),
        lambda: cache.block_table(1),
    ):
        with pytest.raises(KeyError):
            refused()
    with pytest.raises(ValueError, match="live"):
        cache.admit(0, [1, 2, 3])


def test_what_was_found_is_still_there(make: type[KVCacheAdapter]) -> None:
    """Each known failure breaks its invariant."""
    found = [replay(make, known) for known in make.known_failures]

    assert [violation and violation.invariant for violation in found] == [
        known.invariant for known in make.known_failures
    ]


@pytest.mark.parametrize("engine", ["SGLANG", "TRANSFORMERS", "VLLM", "NANO_VLLM_FORK"])
def test_findings_are_documented(engine: str) -> None:
    """Each finding's sentence is in the document, and so is a program on a pool of its size."""
    document = " ".join(DOCUMENT.read_text().split())

    for finding in getattr(findings, engine):
        _, _, what = finding.reason.partition(": ")
        assert finding.invariant in document
        if not what.startswith("as before"):
            assert what.partition(";")[0].casefold() in document.casefold()
        assert f"Adapter({finding.num_blocks}, {finding.block_size}))" in document


def test_requests_keep_what_has_ended() -> None:
    """A second release reaches the engine with the request that ended; a new one takes its place."""
    requests = Requests()
    requests[7] = "first"

    assert requests.end(7) == "first"
    assert 7 not in requests
    assert requests.end(7) == "first"
    requests.check_new(7)
    requests[7] = "second"
    with pytest.raises(ValueError, match="7"):
        requests.check_new(7)
    assert requests.end(7) == "second"
    with pytest.raises(KeyError):
        requests.end(8)


class TestPeer:
    """`Peer`."""

    def test_it_takes_names_from_modules(self) -> None:
        """A name is the module's attribute; what is not listed is refused."""
        peer = Peer("nothing", {"math": "pi tau", "json": "loads"})

        assert peer.unavailable() == ""
        assert peer.loads(str(peer.pi)) == peer.pi
        with pytest.raises(AttributeError, match="sin"):
            _ = peer.sin

    def test_a_missing_package_is_named(self) -> None:
        """The reason names the packages that are not installed."""
        assert Peer("x", {"not_there_a.b": "c"}).unavailable() == "not_there_a is not installed"
        both = Peer("x", {"not_there_b": "c", "not_there_a.b": "c", "math": "pi"})
        assert both.unavailable() == "not_there_a and not_there_b are not installed"

    def test_another_version_is_named(self) -> None:
        """A name that a module has no longer is a reason, with the version."""
        reason = Peer("pytest", {"math": "pie"}).unavailable()

        assert reason.startswith(f"pytest {pytest.__version__} is not as expected: AttributeError: ")
        assert "pie" in reason
        assert "of an unknown version" in Peer("not-there", {"math": "pie"}).unavailable()

    def test_a_package_that_does_not_import_is_stood_in_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its modules are found all the same, though its `__init__` raises."""
        (tmp_path / "heavy_engine").mkdir()
        (tmp_path / "heavy_engine" / "__init__.py").write_text("raise ImportError('no kernels')")
        (tmp_path / "heavy_engine" / "blocks.py").write_text(
            "import warnings\nwarnings.warn('old')\nPool = int"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

        with_init = Peer("heavy", {"heavy_engine.blocks": "Pool"})
        without = Peer("heavy", {"heavy_engine.blocks": "Pool"}, without_init=("heavy_engine",))

        assert "no kernels" in with_init.unavailable()
        assert without.unavailable() == ""
        assert without.Pool is builtins.int
        monkeypatch.delitem(sys.modules, "heavy_engine")
        monkeypatch.delitem(sys.modules, "heavy_engine.blocks")

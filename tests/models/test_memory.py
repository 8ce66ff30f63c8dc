"""A pool is as large as its memory allows, and one that is too large says what would fit."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("transformers")

from pagedkv import BlockManager, CacheConfig
from pagedkv.errors import ConfigError, PoolTooLarge
from pagedkv.models import TorchExecutor, default_num_blocks, fit_num_blocks, make_kv_store, memory

Loaded = Callable[[str], Any]
BLOCK_BYTES = 16 * 2 * 2 * 2 * 8 * 4  # of llama: tokens, keys and values, layers, heads, elements, bytes


def _has(monkeypatch: pytest.MonkeyPatch, num_bytes: int | None) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: num_bytes)


def test_fit(loaded_of: Loaded) -> None:
    """To the byte."""
    spec = loaded_of("llama").spec
    assert fit_num_blocks(spec, 16, 10 * BLOCK_BYTES) == 10
    assert fit_num_blocks(spec, 16, 10 * BLOCK_BYTES - 1) == 9
    assert fit_num_blocks(spec, 16, -1) == 0


def test_too_large_is_seen_before_it_is_allocated(loaded_of: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has both numbers; what fits is had."""
    _has(monkeypatch, 10 * BLOCK_BYTES)
    monkeypatch.setattr(memory, "KVStore", lambda **_: pytest.fail("it was allocated"))
    with pytest.raises(PoolTooLarge, match=r"11 blocks of 16 tokens take .* 10 blocks would fit") as caught:
        make_kv_store(loaded_of("llama").spec, num_blocks=11, block_size=16)
    assert (caught.value.num_blocks, caught.value.num_fitting) == (11, 10)


def test_what_fits_is_had(loaded_of: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it."""
    _has(monkeypatch, 10 * BLOCK_BYTES)
    store = make_kv_store(loaded_of("llama").spec, num_blocks=10, block_size=16)
    assert sum(each.numel() * each.element_size() for each in store.layers.tensors) == 10 * BLOCK_BYTES


@pytest.mark.parametrize(("known", "fitting"), [(3 * BLOCK_BYTES, 3), (1 << 62, None), (None, 0)])
def test_an_allocation_that_fails(
    known: int | None, fitting: int | None, loaded_of: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there seemed to be may be gone, in pieces, or not known at all."""
    answers = iter([None, known])
    monkeypatch.setattr(memory, "available_memory", lambda device: next(answers))
    num_blocks = 1 << 44  # more than any machine can address
    with pytest.raises(PoolTooLarge) as caught:
        make_kv_store(loaded_of("llama").spec, num_blocks=num_blocks, block_size=16)
    assert caught.value.num_blocks == num_blocks
    assert caught.value.num_fitting == (num_blocks - 1 if fitting is None else fitting)
    assert ("not known" in str(caught.value)) == (known is None)


def test_an_executor_whose_pool_is_too_large(loaded_of: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when it is made."""
    _has(monkeypatch, 10 * BLOCK_BYTES)
    with pytest.raises(PoolTooLarge, match="10 blocks would fit"):
        TorchExecutor(loaded_of("llama"), BlockManager(CacheConfig(num_blocks=11, block_size=16)))


def test_default(loaded_of: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of what there is, and no more than could be used."""
    spec = loaded_of("llama").spec
    _has(monkeypatch, 400 * BLOCK_BYTES)
    assert default_num_blocks(spec, 16, max_model_len=256, max_sequences=64) == 100
    assert default_num_blocks(spec, 16, max_model_len=250, max_sequences=2) == 32
    with pytest.raises(PoolTooLarge, match=r"a sequence of 2000 tokens takes 125 blocks, and 100 fit"):
        default_num_blocks(spec, 16, max_model_len=2000, max_sequences=2)
    _has(monkeypatch, None)
    with pytest.raises(ConfigError, match="say how many blocks"):
        default_num_blocks(spec, 16, max_model_len=256, max_sequences=64)

"""HostPool: as much as was asked for and no more than there is; never less without a word."""

import logging

import pytest

from pagedkv.errors import ConfigError
from pagedkv.offload.storage import host_pool
from pagedkv.offload.storage.host_pool import HostPool

PAGE = 5000
STRIDE = 8192


class Pinning:
    """Grants so many bytes at most, and remembers what it was asked for."""

    def __init__(self, granted: int) -> None:
        self.granted, self.asked = granted, []

    def __call__(self, address: int, num_bytes: int) -> bool:
        assert address % 4096 == 0
        self.asked.append(num_bytes)
        return num_bytes <= self.granted


def test_slots_are_aligned():
    """A page takes whole units of direct IO, and slots lie apart."""
    pool = HostPool.open(PAGE, num_blocks=3, pinned_bytes=10 * STRIDE + 1)
    assert (pool.num_slots, pool.stride, pool.page_bytes, pool.is_pinned) == (10, STRIDE, PAGE, False)
    assert all(row.ctypes.data % 4096 == 0 for row in pool.memory)
    pool.memory[3] = 7
    assert not pool.memory[2].any()
    assert not pool.memory[4].any()


@pytest.mark.parametrize(("available", "num_slots"), [(2**40, 6), (8 * STRIDE, 2), (None, 6)])
def test_without_a_size(monkeypatch, available, num_slots):
    """As many slots as blocks, but at most a quarter of what the host has left."""
    monkeypatch.setattr(host_pool, "available_host_memory", lambda: available)
    assert HostPool.open(PAGE, num_blocks=6, pinned_bytes=None).num_slots == num_slots


@pytest.mark.parametrize("pinned_bytes", [0, STRIDE - 1])
def test_no_page_fits(pinned_bytes):
    """Refused with what a page takes."""
    with pytest.raises(
        ConfigError, match=rf"\({pinned_bytes}\) holds no page: one of {PAGE} bytes takes {STRIDE}"
    ):
        HostPool.open(PAGE, num_blocks=6, pinned_bytes=pinned_bytes)


def test_a_host_without_memory(monkeypatch):
    """A quarter of little may be less than a page."""
    monkeypatch.setattr(host_pool, "available_host_memory", lambda: 3 * STRIDE)
    with pytest.raises(ConfigError, match=r"a quarter of what the host has left .* holds no page"):
        HostPool.open(PAGE, num_blocks=6, pinned_bytes=None)


def test_more_than_the_host_has(monkeypatch):
    """Refused with what was asked, what there is, and how many pages that would hold."""
    monkeypatch.setattr(host_pool, "available_host_memory", lambda: 100 * STRIDE + 5)
    with pytest.raises(ConfigError, match=rf"is {101 * STRIDE} \(.*101 pages.* which holds 100 pages"):
        HostPool.open(PAGE, num_blocks=6, pinned_bytes=101 * STRIDE)


def test_an_address_space_without_room(monkeypatch):
    """Where nobody knows what the host has, the mapping finds out."""
    monkeypatch.setattr(host_pool, "available_host_memory", lambda: None)
    with pytest.raises(ConfigError, match="which the host does not give"):
        HostPool.open(PAGE, num_blocks=6, pinned_bytes=2**61)


def test_pinning_that_is_granted(caplog):
    """Nobody hears of it."""
    pin = Pinning(16 * STRIDE)
    pool = HostPool.open(PAGE, num_blocks=6, pinned_bytes=16 * STRIDE, pin=pin)
    assert (pool.num_slots, pool.is_pinned, pin.asked) == (16, True, [16 * STRIDE])
    assert not caplog.records


def test_pinning_that_is_granted_in_part(caplog):
    """Half as many slots, until it is; one line has the numbers."""
    pin = Pinning(5 * STRIDE)
    pool = HostPool.open(PAGE, num_blocks=6, pinned_bytes=16 * STRIDE, pin=pin)
    assert (pool.num_slots, pool.is_pinned) == (4, True)
    assert pin.asked == [16 * STRIDE, 8 * STRIDE, 4 * STRIDE]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "4 pages are kept instead of 16" in record.getMessage()
    assert "the host has" in record.getMessage()


def test_pinning_that_is_refused(caplog):
    """All slots, of plain memory; one line says that copies are slow."""
    pin = Pinning(0)
    pool = HostPool.open(PAGE, num_blocks=6, pinned_bytes=16 * STRIDE, pin=pin)
    assert (pool.num_slots, pool.is_pinned) == (16, False)
    assert pin.asked[-1] == STRIDE
    (record,) = caplog.records
    assert "plain memory" in record.getMessage()
    pool.memory[15] = 1

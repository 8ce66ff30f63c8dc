"""Movers that are made often measure only as long as they must."""

import pytest

from pagedkv.offload.storage import bandwidth


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round for each route."""
    monkeypatch.setattr(bandwidth, "_COPY_S", 0.0)
    monkeypatch.setattr(bandwidth, "_FILE_S", 0.0)

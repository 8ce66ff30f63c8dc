"""Settings of the tiers: what is out of range is refused when they are made, with what may be."""

from pathlib import Path
from typing import Any

import pytest

from pagedkv import OffloadConfig
from pagedkv.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pinned_bytes": -1}, "pinned_bytes is -1; it must be an int from 0"),
        ({"pinned_bytes": 2**63}, "pinned_bytes is 9223372036854775808"),
        ({"pinned_bytes": 1.5}, "pinned_bytes is 1.5"),
        ({"prefetch_blocks": -1}, "prefetch_blocks is -1"),
        ({"io_threads": 0}, "io_threads is 0; it must be an int from 1 to 1024"),
        ({"io_threads": 1025}, "io_threads is 1025"),
        ({"io_streams": True}, "io_streams is True"),
        ({"queue_depth": 0}, "queue_depth is 0"),
        ({"nvme_bytes": -4096, "nvme_path": "pages"}, "nvme_bytes is -4096"),
        ({"nvme_bytes": 2**63, "nvme_path": "pages"}, "nvme_bytes is 9223372036854775808"),
        ({"nvme_path": "pages"}, "nvme_path is set and nvme_bytes is 0"),
        ({"nvme_path": 5, "nvme_bytes": 1}, "nvme_path is 5; it must be the path of a folder"),
        ({"nvme_path": b"pages", "nvme_bytes": 1}, "nvme_path is b'pages'"),
        ({"nvme_path": "", "nvme_bytes": 1}, "nvme_path is ''"),
        ({"policy": "mru"}, "policy is 'mru'; it must be one of 'lru', 'arc', 'fifo'"),
        ({"direct_io": 1}, "direct_io is 1; it must be True or False"),
        ({"page_in_timeout_ms": -1}, "page_in_timeout_ms is -1"),
        ({"page_in_timeout_ms": float("nan")}, "page_in_timeout_ms is nan"),
        ({"page_in_timeout_ms": 1e300}, r"page_in_timeout_ms is 1e\+300"),
    ],
    ids=str,
)
def test_refusals(settings: dict[str, Any], says: str) -> None:
    """Each says which setting it is, and what it was."""
    with pytest.raises(ConfigError, match=says):
        OffloadConfig(**settings)


def test_the_ends_of_the_ranges(tmp_path: Path) -> None:
    """What is just possible."""
    OffloadConfig(pinned_bytes=0, prefetch_blocks=0, io_threads=1, io_streams=1, queue_depth=1)
    OffloadConfig(nvme_path=tmp_path, nvme_bytes=1, page_in_timeout_ms=0)
    OffloadConfig(nvme_path=str(tmp_path), nvme_bytes=2**63 - 1, io_threads=1024, page_in_timeout_ms=1e9)

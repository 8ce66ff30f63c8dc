"""What all tests share."""

import os
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

if not any(Path("/dev").glob("nvidia[0-9]*")):  # kernels are interpreted; Triton looks when it decorates them
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Workers begin with tests that lie together, so that what a file sets up is set up once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Heavy tests run where a `-m` expression asks for them."""
    if not config.option.markexpr:
        skip = pytest.mark.skip(reason="heavy: takes a minute; run with `-m heavy`")
        for item in items:
            if item.get_closest_marker("heavy") is not None:
                item.add_marker(skip)

"""What the tests of the suites share."""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings


@pytest.fixture
def fresh_search() -> Iterator[None]:
    """Random search without what earlier runs found, and without shrinking."""
    before = settings.get_current_profile_name()
    phases = [Phase.explicit, Phase.generate, Phase.target]
    settings.register_profile("fresh", settings(), database=None, phases=phases)
    settings.load_profile("fresh")
    yield
    settings.load_profile(before)

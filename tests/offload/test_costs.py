"""What computing again costs, from the steps that were seen."""

from hypothesis import given
from hypothesis import strategies as st

from pagedkv.offload.costs import PrefillSpeed


def test_unknown_before_the_first_prompt() -> None:
    """Decodes say nothing about prompts."""
    speed = PrefillSpeed()
    speed.observe(0, 64, 10_000)
    speed.observe(8, 64, 10_000)
    assert speed.recompute_ns(100) is None


def test_it_follows_a_change() -> None:
    """After some dozen slower steps, the slower speed counts."""
    speed = PrefillSpeed()
    for _ in range(50):
        speed.observe(1000, 1000, 1_000_000)
    assert speed.recompute_ns(16) == 16_000
    for _ in range(100):
        speed.observe(1000, 1000, 3_000_000)
    assert abs((speed.recompute_ns(16) or 0) - 48_000) < 100


@given(st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 10**9)), min_size=1, max_size=30))
def test_it_is_between_the_slowest_and_the_quickest_step(steps: list[tuple[int, int]]) -> None:
    """A mean of what was seen."""
    speed = PrefillSpeed()
    for num_tokens, duration_ns in steps:
        speed.observe(num_tokens, num_tokens, duration_ns)
    per_token = [duration_ns / num_tokens for num_tokens, duration_ns in steps]
    found = speed.recompute_ns(10**6)
    assert found is not None
    assert min(per_token) * 10**6 * 0.999 - 1 <= found <= max(per_token) * 10**6 * 1.001 + 1

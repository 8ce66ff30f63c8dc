"""Random numbers by counter: the same everywhere, and as good as they look."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.sampling.uniform import uniform

COUNT = 1 << 18
UINT64S = st.integers(0, 2**64 - 1)


def bits_of(seed: int, sample: int, position: int) -> int:
    """The same numbers in Python's integers."""
    bits = 0
    for part in (seed, sample, position):
        bits = (bits ^ part) + 0x9E3779B97F4A7C15 & 2**64 - 1
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 2**64 - 1
        bits ^= bits >> 31
    return bits


@settings(deadline=None)
@given(UINT64S, st.integers(0, 2**31), st.integers(0, 2**31))
def test_exact(seed: int, sample: int, position: int) -> None:
    """Integers of any size give what those of 64 bits give, and neither 0 nor 1 comes of it."""
    number = uniform(np.array([seed], np.uint64), sample, position)
    assert number.tolist() == [(2 * (bits_of(seed, sample, position) >> 12) + 1) / 2**53]
    assert 0 < number[0] < 1


def test_known_numbers() -> None:
    """Those of one machine are those of all."""
    numbers = uniform([0, 1, 2**64 - 1], [0, 1, 7], [0, 2, 100_000])
    assert [number.hex() for number in numbers.tolist()] == [
        "0x1.1c13ade1c7e5cp-3",
        "0x1.124d5b9dac7b2p-2",
        "0x1.00ec4aa188a86p-2",
    ]


def test_broadcast() -> None:
    """Each number depends on its own three alone."""
    seeds, samples, positions = np.array([[3], [9]], np.uint64), np.arange(4), np.array([[5], [6]])
    matrix = uniform(seeds, samples, positions)
    assert matrix.shape == (2, 4)
    for row in range(2):
        for sample in range(4):
            assert matrix[row, sample] == uniform(seeds[row], sample, positions[row])[0]


SERIES = {
    "positions": lambda: uniform(7, 0, np.arange(COUNT)),
    "samples": lambda: uniform(7, np.arange(COUNT), 0),
    "seeds": lambda: uniform(np.arange(COUNT), 0, 0),
    "batch": lambda: uniform(np.arange(512)[:, None], 0, np.arange(512)).T.ravel(),
}


@pytest.fixture(scope="module", params=SERIES)
def numbers(request: pytest.FixtureRequest) -> npt.NDArray[np.float64]:
    """Many numbers, of which one thing changes from each to the next."""
    return SERIES[request.param]()


def test_moments(numbers: npt.NDArray[np.float64]) -> None:
    """Mean and variance of a uniform variable, within 4 standard errors."""
    assert abs(numbers.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / COUNT)
    assert abs(numbers.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / COUNT)


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 64, 512])
def test_serial_correlation(numbers: npt.NDArray[np.float64], lag: int) -> None:
    """None, within 4 standard errors."""
    centred = numbers - 1 / 2
    correlation = (centred[lag:] * centred[:-lag]).mean() * 12
    assert abs(correlation) < 4 / math.sqrt(COUNT - lag)


@pytest.mark.parametrize("bins", [2, 10, 1024])
def test_chi_square(numbers: npt.NDArray[np.float64], bins: int) -> None:
    """Every part of the range gets its share, singly and in pairs: neither too little nor too exactly."""
    places = (numbers * bins).astype(np.int64)
    check_even(np.bincount(places, minlength=bins))
    if bins < 100:
        pairs = places[::2] * bins + places[1::2]
        check_even(np.bincount(pairs, minlength=bins**2))


def check_even(counts: npt.NDArray[np.int64]) -> None:
    """Chi-square within 4 standard deviations, by Wilson and Hilferty's approximation."""
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    chi_square = ((counts - expected) ** 2 / expected).sum()
    if freedom == 1:
        assert chi_square < 16
        return
    spread = 2 / (9 * freedom)
    assert abs((chi_square / freedom) ** (1 / 3) - (1 - spread)) < 4 * math.sqrt(spread)


def test_the_tests_see_a_bad_generator() -> None:
    """A counter without mixing fails what the numbers pass."""
    bad = (np.arange(COUNT) * 0.618) % 1
    with pytest.raises(AssertionError):
        test_serial_correlation(bad, 1)
    with pytest.raises(AssertionError):
        test_chi_square(bad, 1024)

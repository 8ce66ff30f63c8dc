"""The hash of what a benchmark is."""

import pytest

from pytest_pagedkv.perf.source_hash import source_hash

FILE = """
import numpy
from helpers import help

SIZE = 3
pytestmark = [1]

def helper(n):
    return inner(n)

def inner(n):
    return SIZE * n

def fixture():
    return 1

def other():
    return 0

def test_it(fixture, rng):
    assert helper(fixture)

class TestMany:
    def test_a(self):
        assert other()
"""


def changed(before: str, after: str, name: str = "test_it") -> bool:
    """The hash is another one when this text is replaced."""
    assert before in FILE
    return source_hash(FILE, name) != source_hash(FILE.replace(before, after), name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("assert helper(fixture)", "assert helper(fixture) + 1"),
        ("return inner(n)", "return inner(n + 1)"),
        ("SIZE * n", "SIZE + n"),
        ("SIZE = 3", "SIZE = 4"),
        ("return 1", "return 2"),
        ("pytestmark = [1]", "pytestmark = [2]"),
    ],
)
def test_what_the_test_uses_counts(before: str, after: str) -> None:
    """Its own lines, functions, constants and fixtures of the file, those that they use, and its marks."""
    assert changed(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 0", "return 5"),
        ("SIZE = 3", "SIZE = 3  # three"),
        ("def helper", "\n\ndef helper"),
        ("import numpy", "import numpy, os"),
        ("class TestMany", "class TestMore"),
    ],
)
def test_what_it_does_not_use_does_not(before: str, after: str) -> None:
    """Other tests, comments, blank lines, imports."""
    assert not changed(before, after)


def test_a_test_of_a_class_is_its_class() -> None:
    """A method has the hash of all of them, and of what they use."""
    assert changed("return 0", "return 5", "TestMany")
    assert changed("test_a", "test_b", "TestMany")


def test_what_is_not_there_is_unknown() -> None:
    """A test that was made by something else has no source; a file that is no Python is refused."""
    assert source_hash(FILE, "test_generated") == "unknown"
    with pytest.raises(SyntaxError):
        source_hash("def", "test_it")

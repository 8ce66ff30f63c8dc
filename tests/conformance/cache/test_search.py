"""The search: what it reaches, what it keeps, and how short it makes what it finds."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from pytest_pagedkv.adapter import KnownFailure, Placement
from pytest_pagedkv.conformance import InvariantViolation, KVCacheConformance
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.search import search
from pytest_pagedkv.conformance.cache.selftest.faults.bases import TrustingCache
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

SCENARIOS = [
    "came back under pressure",
    "cancelled between admit and append",
    "copy on write",
    "cut across a boundary",
    "cut across a boundary, then other tokens",
    "equal tokens in two namespaces",
    "eviction while a hit is taken",
    "fork inside a block",
    "fork of a fork",
    "hit",
    "id used again",
    "larger than the pool",
    "misuse: admit",
    "misuse: append",
    "misuse: fork from",
    "misuse: fork onto",
    "misuse: release",
    "misuse: truncate",
    "out of blocks in admit",
    "out of blocks in append",
    "parent and child append inside a shared block",
    "prompt ends on a block boundary",
    "prompt ends one after a block boundary",
    "prompt ends one before a block boundary",
    "reset with live sequences",
    "twins back to back",
]


class Leaky(ReferenceCache):
    """Loses a block of a sequence that ends with a cut."""

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        before = self.num_free_blocks()
        placement = super().truncate(seq_id, num_tokens)
        if self.num_free_blocks() > before and self._blank:
            self._blank.pop()
        return placement


class Silent(ReferenceCache):
    """Accepts the release of an id that it does not know, and says so; loses blocks besides."""

    known_failures = (
        KnownFailure(
            "documented-errors",
            "an unknown id is released without a word",
            program=(("release", 0),),
            operation="release",
        ),
    )

    def release(self, seq_id: int) -> None:
        if seq_id in self._sequences:
            super().release(seq_id)


class SilentAndWrong(Silent):
    """Besides, a copy goes unreported."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        super().append(seq_id, token_ids)
        return Placement()


class Digested(TrustingCache):
    """Trusts its digest, and says so."""

    known_failures = (
        KnownFailure(
            "hit-soundness",
            "tokens are not compared",
            program=(("weaken_hash", 0), ("admit", 0, (0,)), ("admit", 1, (1, 1))),
            block_size=1,
        ),
    )


class DigestedAndWrong(Digested):
    """Besides, a hit ends one block too far."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        placement = super().admit(seq_id, token_ids, namespace)
        cached = placement.num_cached_tokens + self.block_size
        return Placement(cached) if cached < len(token_ids) else placement


class Repaired(ReferenceCache):
    """Lists a failure that it does not have any more."""

    known_failures = Silent.known_failures


def test_every_scenario_is_reached_often() -> None:
    """A few hundred programs meet every situation many times over."""
    reached = search(
        ReferenceCache, settings=settings(max_examples=150, stateful_step_count=50, database=None), seed=3
    )

    rare = {name: reached.scenarios[name] for name in SCENARIOS if reached.scenarios[name] < 3}
    assert not rare
    assert reached.programs >= 150
    assert reached.operations > 5_000
    assert all(
        reached.rules[name] > 50
        for name in ("admit", "append", "fork", "truncate", "release", "swap_out", "reset_prefix_cache")
    )


def test_the_same_seed_does_the_same() -> None:
    """A seed names a search."""
    few = settings(max_examples=20, stateful_step_count=20)

    first, again, other = (search(ReferenceCache, settings=few, seed=seed) for seed in (5, 5, 6))

    assert first == again
    assert first != other


def test_what_one_adapter_found_stays_when_another_passes(tmp_path: Path) -> None:
    """Each adapter has its own entries in the example database."""
    database = DirectoryBasedExampleDatabase(tmp_path)
    few = settings(max_examples=100, stateful_step_count=30, database=database)
    with pytest.raises(InvariantViolation):
        search(Leaky, settings=few)

    search(ReferenceCache, settings=settings(few, max_examples=10))

    again = Reached()
    with pytest.raises(InvariantViolation, match=r"^conservation: "):
        search(Leaky, settings=settings(few, phases=[Phase.reuse]), reached=again)
    assert again.programs <= 4


def test_a_program_is_made_short() -> None:
    """Two calls, on a pool that has just a blank block more."""
    with pytest.raises(InvariantViolation) as caught:
        search(Leaky, settings=settings(max_examples=100, stateful_step_count=50, database=None), seed=0)

    program = caught.value.program
    assert [call[0] for call in program.calls] == ["admit", "truncate"]
    assert program.num_blocks <= 4


def test_a_known_failure_is_passed_over() -> None:
    """It does not stop the search, which finds the other defects."""
    few = settings(max_examples=60, stateful_step_count=30, database=None)
    search(Silent, settings=few, seed=0)

    with pytest.raises(InvariantViolation, match=r"^shadow: "):
        search(SilentAndWrong, settings=few, seed=0)


def test_a_note_about_a_weak_hash_hides_nothing_else() -> None:
    """A hit that is wrong without collisions is reported, though one with collisions is known."""
    few = settings(max_examples=100, stateful_step_count=30, database=None)
    search(Digested, settings=few, seed=0, hash_bits=8)

    with pytest.raises(InvariantViolation, match=r"^hit-soundness: "):
        search(DigestedAndWrong, settings=few, seed=0)


def test_a_known_failure_has_to_fail() -> None:
    """One that is repaired is reported, by name."""
    KVCacheConformance().test_known_failures(Silent)

    with pytest.raises(
        pytest.fail.Exception, match="'documented-errors' of Repaired is not there: nothing fails"
    ):
        KVCacheConformance().test_known_failures(Repaired)

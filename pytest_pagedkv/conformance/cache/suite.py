"""The suite: subclass it, and set `adapter`."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from pytest_pagedkv.adapter import Adapter, Feature, KnownFailure, KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.complexity import OPERATIONS, check_growth
from pytest_pagedkv.conformance.cache.exhaustive import explore
from pytest_pagedkv.conformance.cache.known import is_known, replay
from pytest_pagedkv.conformance.cache.making import check_class, make_adapter
from pytest_pagedkv.conformance.cache.running import run
from pytest_pagedkv.conformance.cache.scenario_programs import SCENARIOS
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.search import CALL_LIMIT_S, search
from pytest_pagedkv.conformance.cache.shrink import shrink
from pytest_pagedkv.conformance.profiles import exhaustive_depth
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["KVCacheConformance"]

_GROWTH_LIMIT_S = 240.0  # to fill a pool of 64k blocks, and to make some calls on it

Record = Callable[[str, object], None]


class KVCacheConformance:
    """What a paged KV cache has to keep.

        class TestMyCache(KVCacheConformance):
            adapter = MyAdapter

    How long it looks is for the Hypothesis profile to say: `--hypothesis-profile=pagedkv-dev`, `-ci` or
    `-nightly`.

    Attributes:
        adapter: the class under test; None takes that of --pagedkv-adapter.
        call_limit_s: how long a call to it may take.
        exhaustive_depth: calls in the programs of the small scope; None leaves it to the profile.
    """

    adapter_type: ClassVar[type[Adapter]] = KVCacheAdapter
    adapter: ClassVar[type[KVCacheAdapter] | None] = None
    call_limit_s: ClassVar[float] = CALL_LIMIT_S
    exhaustive_depth: ClassVar[int | None] = None

    def test_interface(self, pagedkv_adapter: type[KVCacheAdapter]) -> None:
        """Features are features, and have their methods; a cache can be made, and says what it reserves."""
        watch = self._watch()
        with _failing_clearly(), watch.running():
            check_class(pagedkv_adapter)
            make_adapter(pagedkv_adapter, 8, min(pagedkv_adapter.block_sizes), watch)

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_scenario(self, pagedkv_adapter: type[KVCacheAdapter], scenario: str) -> None:
        """A program in which some cache has failed."""
        needed = SCENARIOS[scenario]
        _require(pagedkv_adapter, needed.features)
        watch, known = self._watch(), []
        with _failing_clearly(), watch.running():
            for size in pagedkv_adapter.block_sizes:
                spare = make_adapter(pagedkv_adapter, needed.num_blocks, size, watch)
                num_blocks = 2 * needed.num_blocks - spare.usable_blocks
                found = run(pagedkv_adapter, Program(num_blocks, size, needed.calls(size)), watch)
                if found is not None and not is_known(pagedkv_adapter, found):
                    smallest = shrink(pagedkv_adapter, found, watch)
                    raise smallest from smallest.__cause__
                known += [found] if found is not None else []
        if known:
            pytest.xfail(f"known: {known[0].invariant}: {known[0].detail}")

    def test_random_programs(self, pagedkv_adapter: type[KVCacheAdapter], record_property: Record) -> None:
        """No program of random calls breaks an invariant."""
        reached = Reached()
        try:
            with _failing_clearly():
                search(pagedkv_adapter, call_limit_s=self.call_limit_s, reached=reached)
        finally:
            _record(record_property, pagedkv_adapter, "random programs", reached)

    def test_small_scope(self, pagedkv_adapter: type[KVCacheAdapter], record_property: Record) -> None:
        """No program at all, up to a few calls on three blocks, breaks an invariant."""
        depth = self.exhaustive_depth or exhaustive_depth()
        with _failing_clearly():
            reached = explore(pagedkv_adapter, depth, self._watch())
        _record(record_property, pagedkv_adapter, f"all programs of {depth} calls on 3 blocks", reached)

    def test_weakened_hash(self, pagedkv_adapter: type[KVCacheAdapter], record_property: Record) -> None:
        """With a hash of 8 bits every prefix is still told from every other, because tokens are compared.

        A cache that relies on a cryptographic digest instead fails here, and says so in `known_failures`.
        """
        if pagedkv_adapter.weaken_hash is KVCacheAdapter.weaken_hash:
            pytest.skip(f"{pagedkv_adapter.__name__} has no weaken_hash")
        _require(pagedkv_adapter, Feature.PREFIX_CACHE)
        with _failing_clearly():
            reached = search(pagedkv_adapter, hash_bits=8, call_limit_s=self.call_limit_s)
        _record(record_property, pagedkv_adapter, "random programs, 8 bits of hash", reached)

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_complexity(self, pagedkv_adapter: type[KVCacheAdapter], operation: str) -> None:
        """A call costs about the same on a large pool as on a small one."""
        _require(pagedkv_adapter, OPERATIONS[operation][0])
        watch = Watch(_GROWTH_LIMIT_S)
        with _failing_clearly(), watch.running():
            try:
                check_growth(pagedkv_adapter, operation, watch)
            except InvariantViolation as violation:
                if not is_known(pagedkv_adapter, violation):
                    raise
                pytest.xfail(violation.detail)
        for failure in pagedkv_adapter.known_failures:
            if failure.invariant == "complexity" and failure.operation == operation:
                _fail_as_gone(pagedkv_adapter, failure, "the cost does not grow")

    def test_known_failures(self, pagedkv_adapter: type[KVCacheAdapter]) -> None:
        """Every known failure is still there; a note about one that is gone has to go too."""
        known = [known for known in pagedkv_adapter.known_failures if known.program]
        if not known:
            pytest.skip(f"{pagedkv_adapter.__name__} has none")
        watch = self._watch()
        with watch.running():
            for failure in known:
                found = replay(pagedkv_adapter, failure, watch)
                if found is None or found.invariant != failure.invariant:
                    seen = "nothing fails" if found is None else f"it breaks {found.invariant}"
                    _fail_as_gone(pagedkv_adapter, failure, seen)

    def _watch(self) -> Watch:
        return Watch(self.call_limit_s)


def _require(adapter: type[KVCacheAdapter], features: Feature) -> None:
    """Skip a test of what the cache does not have; fail if the class is none that can be tested."""
    with _failing_clearly():
        check_class(adapter)
    missing = features & ~adapter.features
    if missing:
        pytest.skip(
            f"{adapter.__name__} has no {', '.join(str(one.name) for one in Feature if one & missing)}"
        )


def _fail_as_gone(adapter: type[KVCacheAdapter], failure: KnownFailure, seen: str) -> None:
    pytest.fail(
        f"the known failure {failure.invariant!r} of {adapter.__name__} is not there: {seen}. "
        f"Take it out of known_failures, or mend its program.\n{failure.reason}",
        pytrace=False,
    )


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """A violation fails the test with its own text, and with where a foreign error comes from."""
    try:
        yield
    except InvariantViolation as violation:
        raise pytest.fail.Exception(_told(violation), pytrace=False) from None


def _told(violation: InvariantViolation) -> str:
    cause = violation.__cause__
    while isinstance(cause, InvariantViolation):  # the same, told from within
        cause = cause.__cause__
    if cause is None:
        return str(violation)
    frames = "".join(traceback.format_exception(cause, limit=-4, chain=False))
    return f"{violation}\n\nraised in\n{frames}"


def _record(record: Record, adapter: type[KVCacheAdapter], what: str, reached: Reached) -> None:
    """Hand the counts to the terminal summary, from whatever process this is."""
    details: dict[str, Any] = {"adapter": adapter.__name__, "what": what, **reached.as_record()}
    record("pagedkv_conformance", details)

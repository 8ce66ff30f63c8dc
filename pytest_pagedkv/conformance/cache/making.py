"""Makes caches from an adapter class, and says what is wrong if that fails."""

from pytest_pagedkv.adapter import Feature, KVCacheAdapter
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["check_class", "make_adapter"]

_METHODS = {
    Feature.FORK: ("fork",),
    Feature.TRUNCATE: ("truncate",),
    Feature.SWAP: ("swap_out", "swap_in"),
    Feature.REF_COUNTS: ("ref_counts",),
    Feature.RESET: ("reset_prefix_cache",),
}


def check_class(adapter: type[KVCacheAdapter]) -> None:
    """Check what can be seen without an instance: that the features are features, and have their methods.

    Raises:
        InvariantViolation: they have not.
    """
    name = f"{adapter.__module__}:{adapter.__qualname__}"
    if not isinstance(adapter.features, Feature):
        raise InvariantViolation(
            "well-formed", f"features is {adapter.features!r}; it must be a Feature", adapter=name
        )
    for feature, methods in _METHODS.items():
        for method in methods:
            is_own = getattr(adapter, method) is not getattr(KVCacheAdapter, method)
            if feature in adapter.features and not is_own:
                raise InvariantViolation(
                    "well-formed", f"features promise {feature.name}, but there is no {method}", adapter=name
                )
    sizes, overhead = adapter.block_sizes, adapter.max_overhead_blocks
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InvariantViolation(
            "well-formed", f"block_sizes is {sizes!r}; it must name one positive int at least", adapter=name
        )
    if not isinstance(overhead, int) or overhead < 0:
        raise InvariantViolation(
            "well-formed", f"max_overhead_blocks is {overhead!r}; it must be an int from 0 on", adapter=name
        )
    for known in adapter.known_failures:
        if not known.program and known.invariant != "complexity":
            raise InvariantViolation(
                "well-formed",
                f"known failure {known.invariant!r} has no program to show it",
                adapter=name,
            )
    missing = sorted(getattr(adapter, "__abstractmethods__", ()))
    if missing:
        raise InvariantViolation("well-formed", f"there is no {', '.join(missing)}", adapter=name)


def make_adapter(
    adapter: type[KVCacheAdapter], num_blocks: int, block_size: int, watch: Watch | None = None
) -> KVCacheAdapter:
    """Make an instance, within the time that the watch allows.

    Raises:
        InvariantViolation: the constructor raises, or leaves an attribute unset or out of range.
    """
    made = f"{adapter.__module__}:{adapter.__qualname__}({num_blocks}, {block_size})"
    try:
        with (watch or Watch(float("inf"))).timing(made):
            instance = adapter(num_blocks, block_size)
    except InvariantViolation:
        raise
    except (Exception, SystemExit) as error:
        raise InvariantViolation(
            "documented-errors",
            f"making it raised {type(error).__name__}: {error}. If the engine takes only some block sizes, "
            f"list them in block_sizes, which is {tuple(adapter.block_sizes)} now",
            adapter=made,
        ) from error
    for name, expected in (("num_blocks", num_blocks), ("block_size", block_size)):
        if getattr(instance, name, None) != expected:
            raise InvariantViolation(
                "well-formed",
                f"{name} is {getattr(instance, name, None)!r} instead of {expected}; call super().__init__",
                adapter=made,
            )
    usable = instance.usable_blocks
    if not isinstance(usable, int) or not 0 < usable <= num_blocks:
        raise InvariantViolation(
            "well-formed", f"usable_blocks is {usable!r}; it must be 1 to {num_blocks}", adapter=made
        )
    return instance

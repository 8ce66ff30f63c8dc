"""What the suite found in foreign engines: each with the shortest program that shows it.

Most are choices that an engine made for reasons of its own, and that the contract decides otherwise: they say
what happens, not that it is wrong. Configurations and numbers are in docs/conformance_peers.md.
"""

from pytest_pagedkv.adapter import KnownFailure

__all__ = ["NANO_VLLM_FORK", "SGLANG", "TRANSFORMERS", "VLLM"]


def _second_release(engine: str) -> KnownFailure:
    return KnownFailure(
        "documented-errors",
        f"{engine}: freeing a request a second time does nothing and says nothing",
        (("admit", 0, (1,)), ("release", 0), ("release", 0)),
        "release",
    )


VLLM = (
    _second_release("vLLM 0.33.0"),
    KnownFailure(
        "hit-soundness",
        "vLLM 0.33.0: tokens are not compared; all rests on SHA-256, which is cut to nothing here",
        (("weaken_hash", 0), ("admit", 0, (0,)), ("admit", 1, (1, 1))),
        block_size=1,
    ),
)

TRANSFORMERS = (
    _second_release("transformers 5.23.0"),
    KnownFailure(
        "eviction-order",
        "transformers 5.23.0: when one block is missing, every cached block is evicted",
        (("admit", 0, (0, 0, 0, 0)), ("release", 0), ("admit", 1, (1,)), ("admit", 2, (0, 0, 0))),
        "admit",
        num_blocks=4,
        block_size=1,
    ),
    KnownFailure(
        "atomic-failure",
        "transformers 5.23.0: a request that does not fit evicts every cached block, and still does not fit",
        (
            ("admit", 0, (0,)),
            ("admit", 1, (1,)),
            ("release", 1),
            ("release", 0),
            ("admit", 2, (0, 0, 0)),
            ("admit", 2, (1, 0)),
        ),
        num_blocks=2,
        block_size=1,
    ),
    KnownFailure(
        "hit-completeness",
        "transformers 5.23.0: as before, where successful calls, too, evict every cached block",
        (
            ("admit", 0, (1, 1, *[0] * 7)),
            ("release", 0),
            ("admit", 1, (1, 1, *[0] * 6, 1, *[0] * 19)),
            ("admit", 1, (0, 0, 1, *[0] * 16)),
            ("admit", 2, (1, 1, 0, 0)),
            ("release", 1),
            ("admit", 3, (0,) * 22),
            ("admit", 3, (0, 0, 1, 0)),
        ),
        "admit",
        num_blocks=9,
        block_size=3,
    ),
    KnownFailure(
        "no-spurious-oom",
        "transformers 5.23.0: a fork takes free blocks only; it evicts no cached one",
        (("admit", 0, (1, 1, 0, 0)), ("release", 0), ("admit", 1, (1, 1, 0)), ("fork", 1, 2)),
        "fork",
        num_blocks=3,
    ),
)

SGLANG = (
    KnownFailure(
        "eviction-order",
        "SGLang 0.5.23: eviction takes whole leaves of the radix tree, and for one page more than is needed",
        (("admit", 0, (0, 0, 0, 0)), ("release", 0), ("admit", 1, (1,)), ("admit", 2, (0, 0, 0))),
        "admit",
        num_blocks=5,
        block_size=1,
    ),
    KnownFailure(
        "hit-completeness",
        "SGLang 0.5.23: a decode step evicts for a new page, though its token fits the last one",
        (
            ("admit", 0, (0,)),
            ("admit", 1, (1, 1, 1, 1)),
            ("release", 1),
            ("append", 0, (1,)),
            ("admit", 2, (1, 1, 0)),
        ),
        "admit",
    ),
    KnownFailure(
        "atomic-failure",
        "SGLang 0.5.23: the look-up of a refused request splits a leaf, so that later less is evicted",
        (
            ("admit", 0, (0, 0, 0)),
            ("admit", 1, (0, 0, 0)),
            ("release", 0),
            ("admit", 2, (0,)),
            ("admit", 1, (0, 0, 0)),
        ),
        block_size=1,
    ),
)

_FORK = "nano-vllm-fork 20260210"
NANO_VLLM_FORK = (
    _second_release(_FORK),
    KnownFailure(
        "hit-soundness",
        f"{_FORK}: a prompt of cached blocks only hits to its end, and leaves no token to compute",
        (("admit", 0, (0, 1)), ("admit", 1, (0, 1))),
        "admit",
    ),
    KnownFailure(
        "hit-completeness",
        f"{_FORK}: a block leaves the index when its last request ends, so that nothing idle hits",
        (("admit", 0, (0, 1)), ("release", 0), ("admit", 1, (0, 1, 1))),
        "admit",
    ),
)

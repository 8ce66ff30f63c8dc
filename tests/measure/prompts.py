"""The load: random prompts, equal for every contestant, and the sizes that the comparison is made at."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCK_SIZE",
    "NUM_BLOCKS",
    "NUM_SEQUENCES",
    "PROMPT_TOKENS",
    "Prompts",
    "decode_prompts",
    "warm_prompts",
]

Int32s = npt.NDArray[np.int32]

BLOCK_SIZE = 16
NUM_BLOCKS = 100_000
NUM_SEQUENCES = 256
PROMPT_TOKENS = 4096

_VOCABULARY = 128_256  # most ids need three bytes, as in the models of today
_DECODE_TOKENS = 1024


@dataclass(slots=True)
class Prompts:
    """A seeded source of random token ids, so that two contestants see the same ones."""

    seed: int = 0
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def one(self, num_tokens: int = PROMPT_TOKENS) -> Int32s:
        """A prompt. Shape `[num_tokens]` (int32)."""
        return self._rng.integers(0, _VOCABULARY, num_tokens, dtype=np.int32)

    def many(self, count: int, num_tokens: int = PROMPT_TOKENS) -> list[Int32s]:
        """Distinct prompts."""
        return list(self._rng.integers(0, _VOCABULARY, (count, num_tokens), dtype=np.int32))


def decode_prompts() -> list[Int32s]:
    """Prompts of a decode batch, of such lengths that every step fills equally many blocks."""
    prompts = Prompts(seed=1)
    return [prompts.one(_DECODE_TOKENS + i % BLOCK_SIZE) for i in range(NUM_SEQUENCES)]


def warm_prompts(*, divided: bool) -> list[Int32s]:
    """Prompts to cache before a look-up of the first of them.

    Args:
        divided: also cache, for every block of the first prompt, one that parts from it there. A flat index
            does not notice; a radix tree then has a node for every block.
    """
    prompts = Prompts(seed=2)
    first = prompts.one()
    if not divided:
        return [first]
    cuts = range(BLOCK_SIZE, PROMPT_TOKENS, BLOCK_SIZE)
    return [first, *(np.concatenate([first[:cut], prompts.one(BLOCK_SIZE + 1)]) for cut in cuts)]

"""An executor without a model: steps take the time that they cost, and tokens come from a hash."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pagedkv.clock import VirtualClock
from pagedkv.errors import ConfigError
from pagedkv.events import EventStream, StepCompiled
from pagedkv.sampling.sampled import Sampled
from pagedkv.sampling.uniform import UInt64s, mixed
from pagedkv.scheduler.state import SequenceState
from pagedkv.scheduler.step import Chunk, Decodes, ScheduledStep
from pagedkv.simulate.compiling import COMPILE_NS, FirstCalls
from pagedkv.simulate.cost import CostModel

__all__ = ["DEFAULT_PEAK", "SimulatedExecutor"]

DEFAULT_PEAK = 32.0
"""See `SimulatedExecutor`, and docs/simulation.md for what beams share with it."""

_HIGHEST_SEED = 2**64 - 1
_UNIT_BITS = 24
_NUMBERS = np.uint64(0x9E3779B97F4A7C15)  # apart by the golden ratio, as splitmix64 has them
_POSITIONS = np.uint64(0xA24BAED4963EE407)
_SEQUENCES = np.uint64(0xD1B54A32D192ED03)


class SimulatedExecutor:
    """Lets a virtual clock advance by what a step costs, and makes tokens up.

    A token depends on the seed, the request's number, the sequence's index and the position: neither what
    runs beside it nor a preemption changes it.

    Beams get candidates of which the first has log-probability -u and each next one is less likely than the
    one before by `peak` times another u, with u uniform in (0, 1]: only the ratio of the two matters to a
    search. A high peak lets every beam go on by itself; with a low one a beam's second best often beats
    another beam's best, so that beams keep descending from few others, and share more blocks.

    Args:
        clock: the clock.
        cost: what a step costs, and the vocabulary's size.
        seed: from 0.
        peak: of the distribution that beams choose from, above 0.
        makes_tokens: whether tokens matter; without, those of plain sequences are all 0, which is quicker.
        warm_up: whether all kernels were compiled before the first step; without, each is in the first step
            that needs it, which waits for that.
        events: is told of these steps; None for nobody.
        begin_step: called first in every step, to let the time pass that it waits for something.

    Raises:
        ConfigError: the seed or the peak is out of range.
    """

    def __init__(
        self,
        clock: VirtualClock,
        cost: CostModel,
        *,
        seed: int = 0,
        peak: float = DEFAULT_PEAK,
        makes_tokens: bool = True,
        warm_up: bool = True,
        events: EventStream | None = None,
        begin_step: Callable[[], None] | None = None,
    ) -> None:
        if type(seed) is not int or not 0 <= seed <= _HIGHEST_SEED:
            raise ConfigError(f"seed is {seed!r}; it must be an int from 0 to {_HIGHEST_SEED}")
        if not 0 < peak < float("inf"):
            raise ConfigError(f"peak is {peak!r}; it must be a finite number above 0")
        self._clock = clock
        self._cost = cost
        self._vocab_size = cost.model.vocab_size
        self._seed = mixed(np.array([seed], np.uint64))
        self._peak = peak
        self._makes_tokens = makes_tokens
        self._decoding = _Batch.of(self._seed, ())
        self._changes: int | None = None
        self._kernels = None if warm_up else FirstCalls()
        self._events = events
        self._begin_step = begin_step

    def execute(self, step: ScheduledStep) -> Sampled:
        """Let the step's time pass; returns its tokens."""
        if self._begin_step is not None:
            self._begin_step()
        if self._kernels is not None and (num_kernels := self._kernels.num_new(step)):
            self._compile(num_kernels)
        self._clock.advance(self._cost.step_ns(step))
        ends = [chunk for chunk in step.chunks if chunk.samples]
        batch = self._sampling(step.decodes, ends)
        if not (self._makes_tokens or batch.samples or batch.beams):
            return Sampled(token_ids=np.zeros(len(batch.keys), np.int32))
        positions = np.concatenate((step.decodes.positions + 1, [chunk.stop for chunk in ends]))
        hashes = mixed(batch.keys ^ positions.astype(np.uint64) * _POSITIONS)
        return Sampled(
            token_ids=(hashes % np.uint64(self._vocab_size)).astype(np.int32),
            branches={at: self._first_tokens(hashes[at], count) for at, count in batch.samples.items()},
            candidates={at: self._best(hashes[at], 2 * width) for at, width in batch.beams.items()},
        )

    def close(self) -> None:
        """Nothing is held."""

    def _compile(self, num_kernels: int) -> None:
        compile_ns = num_kernels * COMPILE_NS
        self._clock.advance(compile_ns)
        if self._events is not None and (emit := self._events.emit) is not None:
            emit(StepCompiled(num_kernels, compile_ns))

    def _sampling(self, decodes: Decodes, ends: Sequence[Chunk]) -> "_Batch":
        """The sequences behind which a token is sampled; those that decode change only now and then."""
        if decodes.changes != self._changes:
            self._decoding = _Batch.of(self._seed, decodes.sequences)
            self._changes = decodes.changes
        if not ends:
            return self._decoding
        return self._decoding.joined(_Batch.of(self._seed, [chunk.sequence for chunk in ends]))

    def _first_tokens(self, key: np.uint64, count: int) -> Sequence[int]:
        """A token for each sample of a request."""
        samples = np.arange(count, dtype=np.uint64)
        tokens: list[int] = (mixed(key ^ samples * _SEQUENCES) % np.uint64(self._vocab_size)).tolist()
        return tokens

    def _best(self, key: np.uint64, count: int) -> Sequence[tuple[int, float]]:
        """Distinct tokens with their log-probabilities, best first.

        Numbers are added up as integers: no library's order of summation shows.
        """
        count = min(count, self._vocab_size)
        places = np.arange(count, dtype=np.uint64)
        units = (mixed(key ^ (places + 1) * _NUMBERS) >> np.uint64(64 - _UNIT_BITS)).astype(np.int64) + 1
        first = int(units[0])
        behind: list[int] = (np.cumsum(units) - first).tolist()
        tokens: list[int] = ((key + places) % np.uint64(self._vocab_size)).tolist()
        unit = 2.0**-_UNIT_BITS
        return [
            (token, -(first + self._peak * gaps) * unit) for token, gaps in zip(tokens, behind, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Sequences, and what their tokens are made of.

    Attributes:
        keys: of each sequence, a hash of its request and its index. Shape `[batch]` (uint64).
        samples: places of those behind which a request's samples begin, with how many.
        beams: places of those that are beams, with the width of their search.
    """

    keys: UInt64s
    samples: Mapping[int, int]
    beams: Mapping[int, int]

    @classmethod
    def of(cls, seed: UInt64s, sequences: Sequence[SequenceState]) -> "_Batch":
        """That of some sequences."""
        numbers = np.array([each.request.number for each in sequences], np.uint64)
        indices = np.array([each.index for each in sequences], np.uint64)
        keys = mixed(mixed(seed ^ numbers * _NUMBERS) ^ indices * _SEQUENCES)
        several = {
            at: n for at, each in enumerate(sequences) if (n := each.request.request.num_sequences) > 1
        }
        beams = {at: n for at, n in several.items() if _is_beam(sequences[at])}
        new = {at: n for at, n in several.items() if at not in beams and not sequences[at].num_output_tokens}
        return cls(keys, new, beams)

    def joined(self, other: "_Batch") -> "_Batch":
        """These, and others behind them."""
        size = len(self.keys)
        return _Batch(
            np.concatenate((self.keys, other.keys)),
            {**self.samples, **{size + at: n for at, n in other.samples.items()}},
            {**self.beams, **{size + at: n for at, n in other.beams.items()}},
        )


def _is_beam(sequence: SequenceState) -> bool:
    sampling = sequence.request.request.sampling
    return sampling is not None and sampling.beam_width > 1

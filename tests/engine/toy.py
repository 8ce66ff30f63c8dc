"""A model of no tensors: its KV are the tokens themselves, and what it says depends on all that it reads."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine, ModelLimits
from pagedkv.engine.live import SocketPath
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import Sampled, TokenLogprobs
from pagedkv.scheduler import ScheduledStep, Scheduler, SequenceState

__all__ = ["END", "VOCAB_SIZE", "ByteTokenizer", "ToyModel", "answer", "likeliest", "token", "toy_engine"]

END = 256
VOCAB_SIZE = 257
_STEP_NS = 1_000_000


class ByteTokenizer:
    """One token for each byte, and an end token."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        end = b"" if skip_special_tokens else b"<end>"
        data = b"".join(end if each == END else bytes([each]) for each in token_ids)
        return data.decode(errors="replace")


def _hash(token_ids: Sequence[int] | npt.NDArray[Any], salt: int = 0) -> int:
    return zlib.crc32(np.asarray(token_ids, np.int32).tobytes(), salt & 0xFFFFFFFF)


def token(token_ids: Sequence[int] | npt.NDArray[Any], seed: int = 0, index: int = 0) -> int:
    """What comes behind these tokens in a sample; greedy samples have seed 0 and index 0."""
    return _hash(token_ids, 31 * seed + index) % VOCAB_SIZE


def likeliest(token_ids: Sequence[int] | npt.NDArray[Any], count: int) -> list[tuple[int, float]]:
    """The likeliest tokens behind these, with their log-probabilities."""
    first = _hash(token_ids)
    return [((first + 7 * i) % VOCAB_SIZE, -(1 + i) * (1 + first % 5) / 8) for i in range(count)]


def answer(prompt: Sequence[int], count: int, *, seed: int = 0, index: int = 0) -> list[int]:
    """What is said behind a prompt, up to the end token."""
    said: list[int] = []
    while len(said) < count and END not in said:
        said.append(token([*prompt, *said], seed, index))
    return said


def scripted(*texts: bytes) -> Callable[[Sequence[int], int, int], int]:
    """Says one of these texts, that of the sample's index, and the end; prompts are of one token."""

    def say(token_ids: Sequence[int], seed: int, index: int) -> int:
        text = texts[index]
        place = len(token_ids) - 1
        return text[place] if place < len(text) else END

    return say


class ToyModel:
    """An executor that runs a step as a model does: copies, writes, reads through block tables, sampling.

    Args:
        cache: the bookkeeping of its blocks.
        clock: moves a millisecond a step.
        say: the next token behind all tokens read, given seed and index of the sample.
    """

    def __init__(
        self,
        cache: BlockManager,
        clock: VirtualClock,
        say: Callable[[Sequence[int], int, int], int] = token,
    ) -> None:
        self.cache = cache
        self.clock = clock
        self.say = say
        self.size = cache.config.block_size
        self.kv = np.full((cache.config.num_blocks, self.size), -1, np.int32)
        self.before: Callable[[ScheduledStep], None] = lambda step: None
        self.steps: list[int] = []
        self.is_closed = False

    def execute(self, step: ScheduledStep) -> Sampled:
        self.before(step)
        self.clock.advance(_STEP_NS)
        self.steps.append(step.batch_size)
        for source, target in step.copies:
            self.kv[target] = self.kv[source]
        self.kv.reshape(-1)[step.decodes.slot_mapping] = step.decodes.token_ids
        for chunk in step.chunks:
            slots = self.cache.slot_mapping(chunk.sequence.seq_id, chunk.start, chunk.stop)
            self.kv.reshape(-1)[slots] = chunk.sequence.token_ids(chunk.start, chunk.stop)
        return self._sampled(step)

    def close(self) -> None:
        self.is_closed = True

    def _sampled(self, step: ScheduledStep) -> Sampled:
        sequences = step.sampling()
        token_ids = np.zeros(len(sequences), np.int32)
        branches, candidates, logprobs = {}, {}, {}
        for place, sequence in enumerate(sequences):
            params = sequence.request.request.sampling
            assert params is not None
            assert params.seed is not None
            read = self._read(sequence)
            if params.beam_width > 1:
                candidates[place] = likeliest(read, 2 * params.beam_width)
            elif params.n > 1 and not sequence.num_output_tokens:
                branches[place] = [self._say(read, params, index) for index in range(params.n)]
            else:
                token_ids[place] = self._say(read, params, sequence.index)
            if params.logprobs is not None:
                said = branches.get(place, [int(token_ids[place])])
                logprobs[place] = [TokenLogprobs(each, -each / 64) for each in said]
        return Sampled(token_ids=token_ids, branches=branches, candidates=candidates, logprobs=logprobs)

    def _say(self, read: Sequence[int], params: SamplingParams, index: int) -> int:
        return self.say(read, 0, 0) if params.is_greedy else self.say(read, params.seed or 0, index)

    def _read(self, sequence: SequenceState) -> list[int]:
        """All tokens of a sequence, through its block table."""
        length = sequence.num_tokens
        blocks = self.cache.block_table(sequence.seq_id)
        tokens: list[int] = self.kv[blocks].reshape(-1)[:length].tolist()
        return tokens


def toy_engine(
    *,
    num_blocks: int = 64,
    block_size: int = 4,
    say: Callable[[Sequence[int], int, int], int] = token,
    tokenizer: ByteTokenizer | None = None,
    max_model_len: int | None = 100,
    cache: dict[str, Any] | None = None,
    debug_socket: SocketPath = False,
    metrics_address: str | None = None,
    **scheduler: Any,
) -> tuple[Engine, ToyModel]:
    """An engine over a toy model."""
    blocks = BlockManager(CacheConfig(num_blocks=num_blocks, block_size=block_size, **(cache or {})))
    clock = VirtualClock()
    model = ToyModel(blocks, clock, say)
    limits = ModelLimits(end_token_ids=(END,), max_model_len=max_model_len, vocab_size=VOCAB_SIZE)
    engine = Engine(
        model,
        Scheduler(blocks, SchedulerConfig(**scheduler), clock),
        tokenizer=tokenizer,
        limits=limits,
        seed=5,
        debug_socket=debug_socket,
        metrics_address=metrics_address,
    )
    return engine, model

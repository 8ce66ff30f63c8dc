"""`generate`: a seeded workload, the same on every machine."""

import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from statistics import NormalDist

from pagedkv.errors import ConfigError
from pagedkv.traces.trace import Trace, TraceRequest
from pagedkv.traces.workload import PRESETS, Workload

__all__ = ["generate"]

_MS_PER_S = 1000.0
_PROMPT_TOKENS_PER_MS = 8  # how fast the imagined service answers, before the user thinks
_MS_PER_OUTPUT_TOKEN = 25


def generate(workload: str | Workload, *, num_requests: int, seed: int, **overrides: float) -> Trace:
    """The first `num_requests` requests of a random workload.

    The same arguments give the same trace on every machine and in every run: all numbers come from one
    Mersenne Twister by inverse transforms.

    Args:
        workload: its statistics, or the name of a preset.
        num_requests: how many requests.
        seed: from 0.
        **overrides: fields of `Workload` to change.

    Raises:
        ConfigError: the preset or a field is unknown, or a number is out of range.
    """
    for name, value, low in (("num_requests", num_requests, 1), ("seed", seed, 0)):
        if type(value) is not int or value < low:
            raise ConfigError(f"{name} is {value!r}; it must be an int of at least {low}")
    name = workload if isinstance(workload, str) else "workload"
    settings = _settings(workload, overrides)
    requests = tuple(_Traffic(settings, _Draw(seed)).requests(num_requests))
    return Trace(f"{name}, seed {seed}", "mooncake", settings.block_size, requests)


def _settings(workload: str | Workload, overrides: dict[str, float]) -> Workload:
    if isinstance(workload, str):
        if workload not in PRESETS:
            raise ConfigError(f"preset {workload!r} is unknown; there are {', '.join(sorted(PRESETS))}")
        workload = PRESETS[workload]
    try:
        return replace(workload, **overrides)  # type: ignore[arg-type]
    except TypeError:
        unknown = sorted(overrides.keys() - Workload.__dataclass_fields__.keys())
        raise ConfigError(f"a workload has no setting {', '.join(unknown)}") from None


class _Draw:
    """Random numbers by inverse transforms of uniform ones, so that no library version changes them."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits  # noqa: S311 - a workload has to repeat, not to be secret
        self._normal = NormalDist()

    def uniform(self) -> float:
        """Uniform in the open interval (0, 1)."""
        return (self._bits(52) + 0.5) / 2**52

    def exponential(self, mean: float) -> float:
        """Exponential with this mean."""
        return -mean * math.log(self.uniform())

    def geometric(self, mean: float) -> int:
        """Geometric from 1 up with this mean, at least 1."""
        if mean <= 1:
            return 1
        return 1 + int(math.log(self.uniform()) / math.log1p(-1 / mean))

    def lognormal(self, mean: float, sigma: float) -> int:
        """Lognormal with this mean, as a whole number of at least 1."""
        mu = math.log(mean) - sigma * sigma / 2
        return max(1, round(math.exp(mu + sigma * self._normal.inv_cdf(self.uniform()))))


@dataclass(slots=True)
class _Conversation:
    """One conversation, between its turns.

    Attributes:
        session_id: its number.
        system_prompt: which system prompt it begins with.
        turns_left: turns still to come.
        num_tokens: length of the history that the next prompt begins with.
        think_ms: think time before the next turn; None before the first.
        full_ids: ids of the history's full blocks, as far as they were needed.
    """

    session_id: int
    system_prompt: int
    turns_left: int
    num_tokens: int
    think_ms: int | None = None
    full_ids: "array[int]" = field(default_factory=lambda: array("q"))


class _Traffic:
    """Conversations that arrive, speak and end, as one stream of requests in order of time."""

    def __init__(self, workload: Workload, draw: _Draw) -> None:
        self._workload = workload
        self._draw = draw
        self._fresh_id = count()
        self._system_ids: dict[tuple[int, int], int] = {}
        self._pending: list[tuple[float, int, _Conversation]] = []
        self._serial = count()
        self._burst_ms = 0.0

    def requests(self, num_requests: int) -> Iterator[TraceRequest]:
        """The first `num_requests` requests."""
        for index in range(num_requests):
            while not self._pending or self._pending[0][0] > self._burst_ms:
                self._arrive()
            now_ms, _, conversation = heappop(self._pending)
            yield self._turn(index, now_ms, conversation)

    def _arrive(self) -> None:
        """Let the next burst of conversations arrive."""
        workload, draw = self._workload, self._draw
        burst_mean = (workload.burstiness + 1) / 2
        gap_s = burst_mean * workload.turns_mean / workload.request_rate_per_s
        self._burst_ms += _MS_PER_S * draw.exponential(gap_s)
        for _ in range(draw.geometric(burst_mean)):
            serial = next(self._serial)
            system_prompt = int(draw.uniform() * workload.num_system_prompts)
            turns = draw.geometric(workload.turns_mean)
            self._schedule(
                self._burst_ms, _Conversation(serial, system_prompt, turns, workload.system_tokens)
            )

    def _schedule(self, at_ms: float, conversation: _Conversation) -> None:
        heappush(self._pending, (at_ms, conversation.session_id, conversation))

    def _turn(self, index: int, now_ms: float, conversation: _Conversation) -> TraceRequest:
        """The conversation's next request; schedules the one after it."""
        workload, draw = self._workload, self._draw
        message = self._message()
        num_prompt = min(conversation.num_tokens + message, workload.max_prompt_tokens)
        num_output = draw.lognormal(workload.output_tokens_mean, workload.output_tokens_sigma)
        forks = draw.uniform() < workload.fork_ratio
        request = TraceRequest(
            index=index,
            line=index + 1,
            arrival_ms=int(now_ms),
            num_prompt_tokens=num_prompt,
            num_output_tokens=num_output,
            block_ids=self._block_ids(conversation, num_prompt),
            session_id=conversation.session_id,
            think_ms=conversation.think_ms,
            num_samples=workload.num_samples if forks else 1,
            beam_width=workload.beam_width if forks else 1,
        )
        self._continue(conversation, now_ms, num_prompt, num_output)
        return request

    def _message(self) -> int:
        """Tokens of a new message. Where there are no documents, nothing is drawn for them."""
        workload, draw = self._workload, self._draw
        if workload.document_ratio and draw.uniform() < workload.document_ratio:
            return workload.document_tokens
        return draw.lognormal(workload.message_tokens_mean, workload.message_tokens_sigma)

    def _continue(self, conversation: _Conversation, now_ms: float, num_prompt: int, num_output: int) -> None:
        conversation.turns_left -= 1
        conversation.num_tokens = num_prompt + num_output
        if conversation.turns_left and conversation.num_tokens < self._workload.max_prompt_tokens:
            conversation.think_ms = int(_MS_PER_S * self._draw.exponential(self._workload.think_time_mean_s))
            answer_ms = num_prompt / _PROMPT_TOKENS_PER_MS + _MS_PER_OUTPUT_TOKEN * num_output
            self._schedule(now_ms + answer_ms + conversation.think_ms, conversation)

    def _block_ids(self, conversation: _Conversation, num_tokens: int) -> "array[int]":
        """Ids of the prompt's blocks: those inside the system prompt are shared, full ones last."""
        block_size = self._workload.block_size
        num_full, rest = divmod(num_tokens, block_size)
        known = conversation.full_ids
        for place in range(len(known), num_full):
            known.append(self._id_at(conversation.system_prompt, place))
        ids = known[:num_full]
        if rest:
            ids.append(next(self._fresh_id))
        return ids

    def _id_at(self, system_prompt: int, place: int) -> int:
        """The id of the full block at this place, behind blocks of this system prompt or of its own."""
        if (place + 1) * self._workload.block_size > self._workload.system_tokens:
            return next(self._fresh_id)
        key = (system_prompt, place)
        if key not in self._system_ids:
            self._system_ids[key] = next(self._fresh_id)
        return self._system_ids[key]

"""Requests as their callers see them: texts, log-probabilities, beams, and what a stream has not told yet.

A plain request needs nothing until it ends. The others are watched: they look at each token that they get.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import SupportsInt

from pagedkv.block_ids import Int32s
from pagedkv.engine.answer import Answer
from pagedkv.engine.careful import CarefulTokenizer
from pagedkv.engine.outputs import CompletionOutput, RequestMetrics, RequestOutput
from pagedkv.request import RequestId, TokenPrompt
from pagedkv.sampling.beam_search import BeamSearch
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import TokenLogprobs
from pagedkv.sampling.stop_text import TextReader
from pagedkv.scheduler import RequestState, SequenceState

__all__ = ["Asked", "PlainGroup", "WatchedGroup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and what its caller wants to be told.

    Args:
        state: the request.
        prompt: its text, if it came as text.
        params: how its tokens are chosen.
        search: its beam search, if it is one.
        tokenizer: for its completions; None for no text.
        streams: whether what is new is told step by step.
    """

    state: RequestState
    prompt: str | None
    params: SamplingParams
    search: BeamSearch | None
    tokenizer: CarefulTokenizer | None
    streams: bool = False

    @property
    def end_token_ids(self) -> Sequence[int]:
        """Tokens that end a sequence, and say nothing."""
        return self.state.request.stop_token_ids

    @property
    def error(self) -> Exception | None:
        """What the tokenizer raised at its tokens."""
        return None if self.tokenizer is None else self.tokenizer.error

    def text(self, token_ids: list[int]) -> str:
        """What the tokens of a completion say."""
        if self.tokenizer is None:
            return ""
        said = token_ids[:-1] if token_ids and token_ids[-1] in self.end_token_ids else token_ids
        return self.tokenizer.decode(said, skip_special_tokens=self.params.skip_special_tokens)

    def reader(self) -> TextReader | None:
        """What reads a sample token by token; None if its text is not needed before its end."""
        if self.tokenizer is None or not (self.streams or self.params.stop):
            return None
        skips = self.params.skip_special_tokens
        return TextReader(self.tokenizer, self.params.stop, self.end_token_ids, skip_special_tokens=skips)


class PlainGroup:
    """A request that is told of when it has ended.

    Args:
        asked: the request.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    @property
    def request_id(self) -> RequestId:
        """The caller's id."""
        return self.asked.state.request_id

    def output(self) -> RequestOutput:
        """The request as it has ended."""
        return self._told([self._completion(each) for each in self._sequences()], is_finished=True)

    def _sequences(self) -> list[SequenceState]:
        """Its samples, the ended ones too, in their order."""
        state = self.asked.state
        return sorted((*state.finished, *state.sequences), key=lambda each: each.index)

    def _completion(self, sequence: SequenceState) -> CompletionOutput:
        token_ids = sequence.output_ids.tolist()
        return CompletionOutput(
            index=sequence.index,
            text=self.asked.text(token_ids),
            token_ids=token_ids,
            finish_reason=sequence.finish_reason,
        )

    def _told(self, outputs: Sequence[CompletionOutput], *, is_finished: bool) -> RequestOutput:
        prompt = self.asked.state.request.prompt
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.asked.prompt,
            prompt_token_ids=prompt.token_ids.tolist() if isinstance(prompt, TokenPrompt) else [],
            outputs=outputs,
            finished=is_finished,
            metrics=RequestMetrics.of(self.asked.state),
        )


@dataclass(slots=True)
class _Sample:
    """What a watched request keeps of one of its samples.

    Attributes:
        reader: of its text; None where no text is needed, and until it is.
        logprobs: of its tokens, where asked for.
        num_tokens_told: tokens that the stream has told.
        num_characters_told: characters that it has.
        is_end_told: whether it has told how the sample ended.
    """

    reader: TextReader | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    num_tokens_told: int = 0
    num_characters_told: int = 0
    is_end_told: bool = False


class WatchedGroup(PlainGroup):
    """A request that has stop texts, wants log-probabilities, or streams.

    A stop text that ends with the first token of one of several samples ends it a step later, as it is no
    sequence before; the token of that step is dropped.

    Args:
        asked: the request.
    """

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._samples: dict[int, _Sample] = {}

    def read(self, answer: Answer) -> None:
        """Look at the tokens that the request got, before they are committed."""
        for sequence in self.asked.state.sequences:
            if (place := answer.places.get(sequence.seq_id)) is not None:
                self._read_sampled(sequence, place, answer)

    def committed(self, answer: Answer) -> None:
        """Keep the log-probabilities of the tokens that the request got."""
        if self.asked.params.logprobs is None:
            return
        for sequence in self._sequences():
            if (place := answer.places.get(sequence.seq_id)) is not None:
                found = answer.sampled.logprobs.get(place, ())
                for index, logprobs in enumerate(found, sequence.index):
                    self._sample(index).logprobs.append(logprobs)

    def reread(self) -> None:
        """Forget what was read: the step failed, and its tokens are not to be."""
        for sample in self._samples.values():
            sample.reader = None

    def news(self) -> RequestOutput | None:
        """What the stream has not told yet; None if there is nothing, and the request goes on."""
        is_finished = self.asked.state.finished_ns is not None
        parts = [part for each in self._sequences() if (part := self._next_part(each)) is not None]
        return self._told(parts, is_finished=is_finished) if parts or is_finished else None

    def _completion(self, sequence: SequenceState) -> CompletionOutput:
        return self._part(sequence, 0, 0)

    def _next_part(self, sequence: SequenceState) -> CompletionOutput | None:
        sample = self._sample(sequence.index)
        if sample.is_end_told:
            return None
        part = self._part(sequence, sample.num_tokens_told, sample.num_characters_told)
        sample.num_tokens_told += len(part.token_ids)
        sample.num_characters_told += len(part.text)
        sample.is_end_told = part.finish_reason is not None
        return part if part.token_ids or part.text or sample.is_end_told else None

    def _part(self, sequence: SequenceState, first_token: int, first_character: int) -> CompletionOutput:
        """A sample from a token, and a character, on."""
        reader = self._reader(sequence.index, sequence.output_ids)
        reason, stop = sequence.finish_reason, sequence.num_output_tokens
        if reader is not None and reader.is_stopped:
            reason, stop = "stop", reader.num_tokens
        token_ids = sequence.output_ids[first_token:stop].tolist()
        if reader is None:
            text = self.asked.text(token_ids)
        else:
            text = reader.text(first_character, is_final=reason is not None)
        logprobs = self._sample(sequence.index).logprobs[:stop]
        is_asked = self.asked.params.logprobs is not None
        return CompletionOutput(
            index=sequence.index,
            text=text,
            token_ids=token_ids,
            finish_reason=reason,
            cumulative_logprob=math.fsum(each.logprob for each in logprobs) if is_asked else None,
            logprobs=logprobs[first_token:] if is_asked else None,
        )

    def _read_sampled(self, sequence: SequenceState, place: int, answer: Answer) -> None:
        firsts = answer.sampled.branches.get(place)
        if firsts is None:
            if self._read(sequence.index, sequence.output_ids, answer.sampled.token_ids[place]):
                answer.ended[sequence.seq_id] = "stop"
            return
        for index, token_id in enumerate(firsts, sequence.index):
            self._read(index, sequence.output_ids, token_id)

    def _read(self, index: int, output_ids: Int32s, token_id: SupportsInt) -> bool:
        """Read the next token of a sample; whether a stop text ends it."""
        reader = self._reader(index, output_ids)
        return reader is not None and reader.read(int(token_id))

    def _reader(self, index: int, output_ids: Int32s) -> TextReader | None:
        """The reader of a sample, which has read these tokens at least; None if no text is needed."""
        sample = self._sample(index)
        if sample.reader is None and (reader := self.asked.reader()) is not None:
            for token_id in output_ids.tolist():
                reader.read(token_id)
            sample.reader = reader
        return sample.reader

    def _sample(self, index: int) -> _Sample:
        return self._samples.setdefault(index, _Sample())

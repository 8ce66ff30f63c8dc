"""Sequences of a batch that are sampled in the same way, as one matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.sampling.distribution import draw, keep_top_k, keep_top_p, likeliest
from pagedkv.sampling.kinds import Kind, Row
from pagedkv.sampling.repetition import Repetition
from pagedkv.sampling.uniform import uniform

__all__ = ["BeamLane", "DrawnLane", "GreedyLane", "Lane", "Lengths"]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How far the sequences of a step are.

    Attributes:
        num_tokens: of each place, tokens of its sequence. Shape `[num_sampled]` (int64).
        last_tokens: of the decodes, which come first, the last token. Shape `[num_decodes]` (int32).
    """

    num_tokens: Int64s
    last_tokens: Int32s


class Lane:
    """Rows of one kind.

    Args:
        kind: what they have in common.
        rows: the rows.
        num_sampled: rows of the whole step.
        vocab_size: tokens of the model.
        device: of the logits.

    Attributes:
        places: of the rows in the step. Shape `[rows]` (int64).
        index: the same on the device, or all of them.
        width: tokens that the row with most of them gets.
    """

    def __init__(
        self, kind: Kind, rows: Sequence[Row], num_sampled: int, vocab_size: int, device: torch.device
    ) -> None:
        self.kind = kind
        self.width = max(row.num_draws for row in rows)
        self.places: Int64s = np.array([row.place for row in rows], np.int64)
        is_all = len(rows) == num_sampled
        self.index: slice | torch.Tensor = slice(None) if is_all else torch.from_numpy(self.places).to(device)
        self._repetition: Repetition | None = None
        if kind.is_penalised:
            penalties = [row.params.repetition_penalty for row in rows]
            self._repetition = Repetition([r.sequence for r in rows], penalties, vocab_size, device)

    def penalised(self, scores: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """These scores of the lane's rows, less the penalties for repetition."""
        if self._repetition is None:
            return scores
        is_known = self.places < len(lengths.last_tokens)
        last_tokens = lengths.last_tokens[self.places[is_known]]
        return self._repetition.apply(scores, lengths.num_tokens[self.places], last_tokens)


class GreedyLane(Lane):
    """Rows that take the likeliest token."""

    def choose(self, logits: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """The tokens; -1 where the best score is not finite. Shape `[rows, width]` (int64)."""
        scores = logits[self.index]
        if self._repetition is not None:
            scores = self.penalised(scores.float(), lengths)
        return likeliest(scores).expand(-1, self.width)


class DrawnLane(Lane):
    """Rows that draw from the distribution, or from the top of it."""

    def __init__(
        self, kind: Kind, rows: Sequence[Row], num_sampled: int, vocab_size: int, device: torch.device
    ) -> None:
        super().__init__(kind, rows, num_sampled, vocab_size, device)

        def column(values: Sequence[float], dtype: torch.dtype) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        num_prompt = [[row.sequence.request.request.prompt.num_tokens] for row in rows]
        self._num_prompt = np.array(num_prompt, np.int64)
        self._seeds = np.array([[row.params.seed] for row in rows], np.uint64)
        first = np.array([[row.sequence.index] for row in rows], np.int64)
        self._samples = first + np.arange(self.width)
        self._temperatures = column([row.params.temperature for row in rows], torch.float32)
        top_k = [min(row.params.top_k, vocab_size) for row in rows]
        self._top_k, self._largest_k = column(top_k, torch.int64), max(top_k)
        self._top_p = column([row.params.top_p for row in rows], torch.float64)

    def choose(self, logits: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """The tokens; -1 where the best score is not finite. Shape `[rows, width]` (int64)."""
        positions = lengths.num_tokens[self.places, None] - self._num_prompt
        uniforms = torch.from_numpy(uniform(self._seeds, self._samples, positions))
        return draw(self.probabilities(logits, lengths), uniforms.to(logits.device))

    def probabilities(self, logits: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """What is drawn from: of each row, the tokens' probabilities, but for a factor.

        Returns:
            `[rows, vocab]` (float32); zeros where the best score is not finite.
        """
        scores = self.penalised(logits[self.index].float(), lengths) / self._temperatures
        if self.kind.has_top_k:
            scores = keep_top_k(scores, self._top_k, self._largest_k)
        probabilities = scores.softmax(-1).nan_to_num_(0)
        return keep_top_p(probabilities, self._top_p) if self.kind.has_top_p else probabilities


class BeamLane(Lane):
    """Beams, whose search wants to know several tokens and how likely they are."""

    def __init__(
        self, kind: Kind, rows: Sequence[Row], num_sampled: int, vocab_size: int, device: torch.device
    ) -> None:
        super().__init__(kind, rows, num_sampled, vocab_size, device)
        self.counts = [min(row.num_candidates, vocab_size) for row in rows]

    def choose(self, logits: torch.Tensor, lengths: Lengths) -> tuple[torch.Tensor, torch.Tensor]:
        """The best tokens and their log-probabilities, best first; tokens of -1 where none is finite.

        Returns:
            Both of shape `[rows, most that one wants]`, int64 and float32.
        """
        scores = self.penalised(logits[self.index].float().log_softmax(-1), lengths)
        best = scores.topk(max(self.counts))
        is_finite = best.values[:, :1].isfinite()
        return best.indices.masked_fill(~is_finite, -1), best.values

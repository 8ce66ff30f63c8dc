"""How likely tokens were, for requests that want to know."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pagedkv.sampling.kinds import Row
from pagedkv.sampling.sampled import TokenLogprobs

__all__ = ["LogprobRows"]


class LogprobRows:
    """Rows of a step whose requests ask for log-probabilities.

    Args:
        rows: the rows, at least one.
        vocab_size: tokens of the model.
        device: of the logits.
    """

    def __init__(self, rows: Sequence[Row], vocab_size: int, device: torch.device) -> None:
        self._rows = rows
        self._index = torch.tensor([row.place for row in rows], device=device)
        self._counts = [min(row.params.logprobs or 0, vocab_size) for row in rows]

    def measure(self, logits: torch.Tensor, chosen: torch.Tensor) -> list[torch.Tensor]:
        """Log-probabilities of the chosen tokens and of the likeliest ones, with these.

        Args:
            logits: of all rows of the step. Shape `[num_sampled, vocab]`.
            chosen: their tokens, -1 where there is none. Shape `[num_sampled, draws]` (int64).

        Returns:
            For the rows that ask: `[rows, draws]`, `[rows, most asked for]`, and the likeliest tokens of the
            same shape.
        """
        logprobs = logits[self._index].float().log_softmax(-1)
        best = logprobs.topk(max(self._counts))
        return [logprobs.gather(1, chosen[self._index].clamp(min=0)), best.values, best.indices]

    def read(
        self, tokens: npt.NDArray[np.int32], measured: Sequence[npt.NDArray[np.float64]]
    ) -> Iterator[tuple[int, Sequence[TokenLogprobs]]]:
        """What `measure` has found, by place; one for each token that the row gets."""
        of_tokens, of_best, best = (values.tolist() for values in measured)
        for at, (row, count) in enumerate(zip(self._rows, self._counts, strict=True)):
            top = list(zip(map(int, best[at][:count]), of_best[at], strict=False))
            taken = zip(tokens[row.place, : row.num_draws].tolist(), of_tokens[at], strict=False)
            yield row.place, [TokenLogprobs(token, logprob, top) for token, logprob in taken]

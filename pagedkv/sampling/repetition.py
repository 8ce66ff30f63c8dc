"""The repetition penalty, and the books of which tokens it falls on."""

from collections.abc import Sequence

import numpy as np
import torch

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.scheduler.state import SequenceState

__all__ = ["Repetition"]


class Repetition:
    """Penalties of sequences for the tokens that are in them, prompts and outputs alike.

    The tokens are kept as a mask on the device. A step that follows upon the last one adds one token to each
    sequence; behind any other, all tokens are marked again.

    Args:
        sequences: of each row, its sequence.
        penalties: of each row.
        vocab_size: tokens of the model; ids behind them are ignored.
        device: of the scores.
    """

    def __init__(
        self,
        sequences: Sequence[SequenceState],
        penalties: Sequence[float],
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self._sequences = sequences
        self._penalties = torch.tensor(penalties, dtype=torch.float32, device=device)[:, None]
        self._seen = torch.zeros(len(sequences), vocab_size, dtype=torch.bool, device=device)
        self._lengths: Int64s | None = None

    def apply(self, scores: torch.Tensor, lengths: Int64s, last_tokens: Int32s) -> torch.Tensor:
        """Divide positive scores of tokens that are there already by the penalty, multiply negative ones.

        Args:
            scores: `[rows, vocab]` (float32).
            lengths: of each sequence, its tokens. Shape `[rows]`.
            last_tokens: of each sequence, the last of them; what stands here is looked at only if all of
                them are one longer than the last time. Shape `[rows]`, or empty.
        """
        if self._lengths is not None and np.array_equal(lengths, self._lengths + 1):
            self._mark(np.arange(len(lengths)), last_tokens)
        else:
            self._mark_all(lengths)
        self._lengths = lengths
        penalised = torch.where(scores < 0, scores * self._penalties, scores / self._penalties)
        return torch.where(self._seen, penalised, scores)

    def _mark_all(self, lengths: Int64s) -> None:
        tokens = [s.token_ids(0, n) for s, n in zip(self._sequences, lengths.tolist(), strict=True)]
        rows = np.repeat(np.arange(len(tokens)), [len(ids) for ids in tokens])
        self._mark(rows, np.concatenate(tokens))

    def _mark(self, rows: Int64s, token_ids: Int32s) -> None:
        vocab_size = self._seen.shape[1]
        is_known = (token_ids >= 0) & (token_ids < vocab_size)
        places = torch.from_numpy(rows[is_known] * vocab_size + token_ids[is_known])
        self._seen.view(-1)[places.to(self._seen.device)] = True

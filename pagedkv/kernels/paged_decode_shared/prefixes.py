"""Which sequences of a batch begin with the same blocks."""

from dataclasses import dataclass

import torch

__all__ = ["SharedPrefixes"]


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Groups of neighbouring sequences, such as forks, beams, or requests with one system prompt.

    Attributes:
        group_starts: `[num_groups + 1]` (int32); group i has the sequences `group_starts[i]:group_starts[i +
            1]` of the batch.
        prefix_lens: `[batch]` (int32) leading tokens of each sequence that its group has in the same blocks:
            one number within a group, a multiple of the block size; 0 for none.
        max_group_size: at least the sequences of the largest group; it shapes the launch. More cost a little,
            and with fewer, or with sequences that are in no group, results are wrong.
    """

    group_starts: torch.Tensor
    prefix_lens: torch.Tensor
    max_group_size: int

"""How a batch is sampled: its rows by kind, on the device for as long as the batch stays."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pagedkv.block_ids import Int32s
from pagedkv.errors import InvalidLogits
from pagedkv.sampling.kinds import Row, by_kind
from pagedkv.sampling.lanes import BeamLane, DrawnLane, GreedyLane, Lengths
from pagedkv.sampling.logprobs import LogprobRows
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler.state import SequenceState

__all__ = ["Plan"]

Doubles = npt.NDArray[np.float64]


class Plan:
    """The rows of a batch, those of one kind as one matrix.

    Args:
        sequences: behind which is sampled.
        vocab_size: tokens of the model.
        device: of the logits.

    Raises:
        InvalidRequest: a request has no sampling parameters, or draws and has no seed.
    """

    def __init__(self, sequences: Sequence[SequenceState], vocab_size: int, device: torch.device) -> None:
        self._sequences = sequences
        self._lanes: list[GreedyLane | DrawnLane] = []
        self._beams: list[BeamLane] = []
        rows: list[Row] = []
        for kind, members in by_kind(sequences).items():
            if kind.is_beam:
                self._beams.append(BeamLane(kind, members, len(sequences), vocab_size, device))
            else:
                lane = DrawnLane if kind.is_drawn else GreedyLane
                self._lanes.append(lane(kind, members, len(sequences), vocab_size, device))
                rows += members
        self._branching = [row for row in rows if row.num_draws > 1]
        self._width = max((row.num_draws for row in rows), default=1)
        told = [row for row in rows if row.params.logprobs is not None]
        self._logprobs = LogprobRows(told, vocab_size, device) if told else None

    def sample(self, logits: torch.Tensor, lengths: Lengths) -> Sampled:
        """The next tokens. What is asked of the device comes back in one piece.

        Raises:
            InvalidLogits: logits without a finite maximum; names the requests.
        """
        chosen = self._choose(logits, lengths)
        beams = [tensor for lane in self._beams for tensor in lane.choose(logits, lengths)]
        measured = self._logprobs.measure(logits, chosen) if self._logprobs is not None else []
        on_host = _to_host([chosen, *beams, *measured])
        tokens = on_host[0].astype(np.int32)
        beams_on_host = on_host[1 : 1 + len(beams)]
        self._require_finite(tokens, beams_on_host[::2])
        told = self._logprobs.read(tokens, on_host[1 + len(beams) :]) if self._logprobs is not None else ()
        branches = {row.place: tokens[row.place, : row.num_draws].tolist() for row in self._branching}
        token_ids = tokens[:, 0].copy()
        token_ids[list(branches)] = 0
        return Sampled(
            token_ids=token_ids,
            branches=branches,
            candidates=dict(self._candidates(beams_on_host)),
            logprobs=dict(told),
        )

    def _choose(self, logits: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """Tokens of the rows that are no beams, -1 where they cannot be told. `[num_sampled, most draws]`."""
        if len(self._lanes) == 1 and not self._beams:
            return self._lanes[0].choose(logits, lengths)
        chosen = torch.zeros(len(logits), self._width, dtype=torch.int64, device=logits.device)
        for lane in self._lanes:
            chosen[lane.index, : lane.width] = lane.choose(logits, lengths)
        return chosen

    def _candidates(self, on_host: Sequence[Doubles]) -> Iterator[tuple[int, Sequence[tuple[int, float]]]]:
        """What the beams go on with, by place."""
        for lane, tokens, logprobs in zip(self._beams, on_host[::2], on_host[1::2], strict=True):
            for at, (place, count) in enumerate(zip(lane.places.tolist(), lane.counts, strict=True)):
                best = tokens[at, :count].astype(np.int32).tolist()
                yield place, list(zip(best, logprobs[at].tolist(), strict=False))

    def _require_finite(self, tokens: Int32s, beams: Sequence[Doubles]) -> None:
        places = np.flatnonzero((tokens < 0).any(1)).tolist()
        for lane, candidates in zip(self._beams, beams, strict=True):
            places += lane.places[candidates[:, 0] < 0].tolist()
        if places:
            request_ids = [*dict.fromkeys(self._sequences[at].request.request_id for at in sorted(places))]
            raise InvalidLogits(
                request_ids,
                f"the model's logits have no finite maximum for {len(request_ids)} of the step's requests: "
                f"{', '.join(map(repr, request_ids))}. Weights or KV hold NaN or infinity, or "
                "the dtype is too narrow: look at the weights, or load the model in float32",
            )


def _to_host(tensors: Sequence[torch.Tensor]) -> list[Doubles]:
    """Copies of the tensors, in one transfer: ids and float32 are exact as float64."""
    flat = torch.cat([tensor.double().flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    return [part.reshape(t.shape) for part, t in zip(np.split(flat, ends[:-1]), tensors, strict=True)]

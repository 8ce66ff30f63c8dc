"""How long decode steps took beside how long like ones take."""

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int64s
from pagedkv.stats import StatsWindow

__all__ = ["decode_intervals", "decodes_alone", "usual_times"]

_ROUNDS = 4
_OUTLIER = 1.5  # times the usual ratio, from which on a step says nothing about like ones


def decodes_alone(window: StatsWindow) -> npt.NDArray[np.bool_]:
    """Which steps only decode: no prompt makes them long. Shape `[num_steps]`."""
    alone: npt.NDArray[np.bool_] = (window["num_decodes"] > 0) & (window["num_prefill_tokens"] == 0)
    return alone


def decode_intervals(window: StatsWindow) -> Int64s:
    """From the end of the step before to the end of each step that only decodes, in ns.

    That is what its sequences wait for their tokens. Shape `[num_decode_steps]` (int64).
    """
    return (window["duration_ns"] + window["between_ns"])[decodes_alone(window)]


def usual_times(window: StatsWindow) -> npt.NDArray[np.float64]:
    """What steps with as many sequences and as long contexts usually take, in ns.

    A constant, a time for each sequence and one for each token of context: the least squares of all decode
    steps that are not much longer than that. Shape `[num_decode_steps]` (float64), of at least one step.
    """
    alone = decodes_alone(window)
    times = decode_intervals(window).astype(np.float64)
    work = np.stack(
        [np.ones(len(times)), window["batch_size"][alone], window["num_kv_tokens"][alone]], axis=1
    )
    work /= np.maximum(work.max(axis=0), 1.0)
    usual = np.full(len(times), np.median(times))
    for _ in range(_ROUNDS):
        ratio = times / usual
        kept = ratio < _OUTLIER * np.median(ratio)
        found = np.linalg.lstsq(work[kept], times[kept], rcond=None)[0]
        usual = np.maximum(work @ found, times.min())
        usual = np.maximum(usual, 1.0)
    return usual

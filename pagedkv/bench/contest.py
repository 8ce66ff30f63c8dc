"""From a shape to its contestants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pagedkv.bench.attention import AttentionCheck, AttentionProblem, ours, unshared
from pagedkv.bench.cases import ATTENTION, Case
from pagedkv.bench.copies import copies_problem
from pagedkv.bench.peers import PEERS_CPU, PEERS_CUDA
from pagedkv.bench.peers.unavailable import PeerUnavailable
from pagedkv.bench.timing import Check, Contestant

__all__ = ["Contest", "contest_of"]


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is measured on a shape.

    Attributes:
        contestants: ours first.
        check: of their results.
        skipped: peers that are not among them, and why.
    """

    contestants: Sequence[Contestant]
    check: Check
    skipped: Mapping[str, str]


def contest_of(case: Case, device: torch.device, *, seed: int = 0) -> Contest:
    """Make the inputs of a shape, what is right for them, and the contestants.

    Args:
        case: the shape.
        device: where.
        seed: of the random numbers.
    """
    generator = torch.Generator(device).manual_seed(seed)
    if case.kernel not in ATTENTION:
        exact, movers = copies_problem(case, device, generator)
        return Contest(movers, exact, {})
    problem = AttentionProblem(case, device, generator)
    contestants = [ours(problem)]
    if case.kernel == "paged_decode_shared":
        contestants.append(unshared(problem))
    skipped: dict[str, str] = {}
    contestants += _peers(problem, skipped)
    return Contest(contestants, AttentionCheck.of(problem), skipped)


def _peers(problem: AttentionProblem, skipped: dict[str, str]) -> Iterator[Contestant]:
    """Those that can be had; the others' reasons are noted."""
    for name, build in (PEERS_CUDA if problem.device.type == "cuda" else PEERS_CPU).items():
        try:
            yield build(problem)
        except PeerUnavailable as error:
            skipped[name] = str(error)
        except Exception as error:  # noqa: BLE001 - foreign code, which may refuse a shape in its own words
            skipped[name] = f"{type(error).__name__}: {error}"

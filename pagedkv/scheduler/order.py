"""Who goes first, and so who is preempted last: a policy is a key to sort requests by."""

from collections.abc import Callable, Mapping

from pagedkv.config import Policy
from pagedkv.scheduler.state import RequestState

__all__ = ["Rank", "rank_by"]

Rank = tuple[int, int, int]
"""The smaller, the earlier; no two requests have the same."""


def _fcfs(request: RequestState) -> Rank:
    """Who came first goes first."""
    return (1, 0, request.number)


def _lifo(request: RequestState) -> Rank:
    """Who came last goes first: short waits for most, at the cost of those that came before."""
    return (1, 0, -request.number)


def _priority(request: RequestState) -> Rank:
    """The most urgent goes first, among equals who came first."""
    return (1, request.request.priority, request.number)


_POLICIES: Mapping[Policy, Callable[[RequestState], Rank]] = {
    "fcfs": _fcfs,
    "lifo": _lifo,
    "priority": _priority,
}


def rank_by(policy: Policy) -> Callable[[RequestState], Rank]:
    """The key of a policy. Whoever was promoted goes before all others, in order of arrival.

    Under "fcfs" who waits longest is first already, unless it was overtaken: promotion ends that only.
    """
    chosen = _POLICIES[policy]
    if policy == "fcfs":
        return chosen

    def rank(request: RequestState) -> Rank:
        return (0, 0, request.number) if request.is_promoted else chosen(request)

    return rank

"""What a scheduler has to keep, by name. Every failure carries one of these names."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["INVARIANTS"]

INVARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "finishes": "an accepted request finishes once, in the step in which it gets its last token",
        "outputs": "a finished request has the tokens that were sampled for it, in their order",
        "refusal": "a request that can never run is refused at once, with numbers that say so; any other is "
        "taken",
        "budget": "a step has at most token_budget tokens and max_running requests",
        "no-duplicate": "a request is in a step once, and not in the step that preempts it",
        "known-request": "steps name live requests only, and preempt running ones only",
        "in-order": "a running request goes on where it stopped: no token is left out or computed twice",
        "no-overrun": "a request is scheduled for one token at least, and for none that it does not have yet",
        "cached-truth": "tokens that a request starts behind were computed before, or are in the same step, "
        "with the same prefix",
        "pool-kept": "what the running requests have computed fits the pool, next to what is said to be free",
        "progress": "while a request is live, steps without any token do not go on",
        "bounded-wait": "a request takes at most wait_ratio times the steps that it and what is ahead of it "
        "would take one after another, + 4",
        "bounded-preemption": "a request is preempted at most once for each other that was live beside it",
        "abort": "an aborted request is not scheduled, preempted or finished any more",
        "come-home": "only running requests hold blocks; when none is live, all are free and one request "
        "can have them",
        "documented-errors": "no error but Refused, ValueError for a live id, KeyError for an unknown one",
        "well-formed": "answers have the promised type, and calls return",
    }
)
"""Name -> statement."""

"""What it costs to compute tokens again, as measured: the other way to have their KV."""

__all__ = ["PrefillSpeed"]

_KEPT = 0.9
_MOSTLY = 0.5


class PrefillSpeed:
    """How quickly prompts are computed here, from the steps that did so.

    The speed is that of the last ten steps or so whose tokens were mostly prompts': what a decode costs is
    its weights', and would be laid on the few tokens of a prompt beside it.
    """

    __slots__ = ("_duration_ns", "_num_tokens")

    def __init__(self) -> None:
        self._num_tokens = self._duration_ns = 0.0

    def observe(self, num_prompt_tokens: int, num_tokens: int, duration_ns: int) -> None:
        """Take a step into account.

        Args:
            num_prompt_tokens: tokens of prompts that it computed.
            num_tokens: all tokens that it computed.
            duration_ns: how long it took.
        """
        if num_prompt_tokens > _MOSTLY * num_tokens:
            self._num_tokens = _KEPT * self._num_tokens + num_tokens
            self._duration_ns = _KEPT * self._duration_ns + duration_ns

    def recompute_ns(self, num_tokens: int) -> int | None:
        """How long it takes to compute so many tokens; None if no prompt was computed yet."""
        return round(self._duration_ns / self._num_tokens * num_tokens) if self._num_tokens else None

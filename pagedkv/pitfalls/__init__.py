"""The five pitfalls of paged attention: found in numbers, explained, with what to change."""

from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["Advice", "Finding", "Pitfall", "Severity", "Source"]

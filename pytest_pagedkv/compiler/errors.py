"""What can go wrong on the way from a described launch to its figures."""

from pagedkv.errors import PagedKVError

__all__ = ["CompilerError", "ProviderError"]


class CompilerError(PagedKVError):
    """A variant could not be compiled, or what was compiled could not be read."""


class ProviderError(CompilerError):
    """A provider of variants is not usable."""

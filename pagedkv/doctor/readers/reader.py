"""What a reader is."""

from typing import Protocol

from pagedkv.doctor.diagnosis import FileReport
from pagedkv.doctor.given import GivenFile
from pagedkv.pitfalls.finding import Finding

__all__ = ["Reader"]


class Reader(Protocol):
    """Reads one kind of file; keeps what it saw in all of them, bounded, until it is asked."""

    def accepts(self, given: GivenFile) -> bool:
        """Whether this file is of its kind, by its first bytes."""

    def read(self, given: GivenFile) -> FileReport:
        """Read the file.

        Raises:
            Unreadable: it is broken, or of a version that is not known.
        """

    def findings(self) -> list[Finding]:
        """What all files that it has read say."""

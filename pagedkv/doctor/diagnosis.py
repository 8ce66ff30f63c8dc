"""What was read, and what was found in it."""

from dataclasses import dataclass
from typing import Any

from pagedkv.pitfalls.finding import Finding

__all__ = ["Diagnosis", "FileReport"]

EXIT_CLEAN, EXIT_FINDINGS, EXIT_UNREADABLE = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What became of a file.

    Attributes:
        file: its name.
        kind: what it was taken for; "" if it could not be read.
        num_bytes: bytes that were read, unpacked.
        num_read: lines of a log, events of a trace, rows of a database.
        num_understood: those of them that say something.
        num_odd: those that begin as one of these and go on otherwise.
        notes: what else there is to say.
        error: why it could not be read, or "".
    """

    file: str
    kind: str = ""
    num_bytes: int = 0
    num_read: int = 0
    num_understood: int = 0
    num_odd: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The report as values that JSON knows."""
        names = ("file", "kind", "num_bytes", "num_read", "num_understood", "num_odd")
        return {
            **{name: getattr(self, name) for name in names},
            "notes": list(self.notes),
            "error": self.error or None,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What all files together say.

    Attributes:
        files: in the order in which they were given.
        findings: the worst first.
    """

    files: tuple[FileReport, ...]
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 with findings; 2 if no file could be read; 0 otherwise."""
        if self.findings:
            return EXIT_FINDINGS
        return EXIT_UNREADABLE if all(each.error for each in self.files) else EXIT_CLEAN

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as values that JSON knows."""
        return {
            "exit_code": self.exit_code,
            "files": [each.as_dict() for each in self.files],
            "findings": [each.as_dict() for each in self.findings],
        }

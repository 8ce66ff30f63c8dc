"""How far the timing is: a bar on pytest's terminal, or one line a pair where the output is no terminal."""

from types import TracebackType
from typing import Self

import pytest

__all__ = ["Progress"]

_WIDTH = 24


class Progress:
    """A bar while the context lasts; call it with what is done and what there is to do.

    Args:
        config: knows the terminal.
        what: the work, in a few words.
    """

    def __init__(self, config: pytest.Config, what: str) -> None:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        self._terminal: pytest.TerminalReporter | None = terminal
        self._what = what
        self._has_bar = terminal is not None and terminal.isatty and terminal.verbosity >= 0

    def __enter__(self) -> Self:
        if self._terminal is not None:
            self._terminal.ensure_newline()
            if not self._has_bar:
                self._terminal.write_line(f"pagedkv: {self._what} ...")
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show this state."""
        if self._has_bar and self._terminal is not None:
            filled = _WIDTH * done // max(total, 1)
            bar = "#" * filled + "." * (_WIDTH - filled)
            self._terminal.rewrite(
                f"pagedkv: {self._what} [{bar}] {100 * done // max(total, 1)}%", erase=True
            )

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._has_bar and self._terminal is not None:
            self._terminal.rewrite("", erase=True)
            self._terminal.rewrite("")

"""What a command is."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse

__all__ = ["Command"]


class Command(Protocol):
    """What a module has to have to be a command.

    Its parser sets the default `run`, a function from the parsed arguments to the exit code. What is slow to
    import is imported there.
    """

    def add_parser(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add the command's parser to the others."""

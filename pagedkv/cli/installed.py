"""Commands of other packages, found by the entry-point group `pagedkv.commands`.

    [project.entry-points."pagedkv.commands"]
    baselines = "pytest_pagedkv.baselines.commands"

The name is that of the command, and the module is a `Command`.
"""

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from pagedkv.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from pagedkv.cli.command import Command

__all__ = ["GROUP", "add_installed"]

GROUP = "pagedkv.commands"
"""The entry-point group."""


def add_installed(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", taken: Collection[str], wanted: str
) -> None:
    """Add the commands of installed packages, sorted by name; one that is broken is only listed as such.

    Args:
        commands: where to add them.
        taken: names of commands that there are already, which stay as they are.
        wanted: the command that the user named, or "".

    Raises:
        ConfigError: the command that the user named cannot be loaded.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    for name in sorted(found.keys() - set(taken)):
        try:
            command: Command = found[name].load()
            command.add_parser(commands)
        except Exception as error:  # foreign code: the other commands have to work
            if name == wanted:
                raise ConfigError(_broken(found[name], error)) from error
            if name not in commands.choices:
                commands.add_parser(name, help=f"cannot be loaded: {type(error).__name__}")


def _broken(point: EntryPoint, error: Exception) -> str:
    package = point.dist.name if point.dist else "a package"
    return (
        f"the command {point.name!r} of {package} ({point.value}) cannot be loaded: "
        f"{type(error).__name__}: {error}; install that package again, or remove it"
    )

"""The command line of a process that runs the same tests for this one."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["child_arguments"]


def child_arguments(
    config: pytest.Config,
    cache: Path,
    *options: str,
    python: str = sys.executable,
    given: Sequence[str] | None = None,
) -> list[str]:
    """This session's command line, with the last word on what takes effect before our plugin can.

    Args:
        config: of this session.
        cache: folder for pytest's cache there.
        *options: further ones.
        python: the interpreter.
        given: what the user gave, where it is to be changed.
    """
    option = config.option
    here = str(config.invocation_params.dir)
    given = [str(argument) for argument in config.invocation_params.args] if given is None else given
    end = given.index("--") if "--" in given else len(given)
    return [
        python,
        *([] if here in sys.path or "" in sys.path else ["-P"]),
        *("-m", "pytest"),
        *given[:end],
        *(["-n0"] if hasattr(option, "numprocesses") else []),
        *(["--no-cov"] if hasattr(option, "no_cov") else []),
        *(["-o", f"cache_dir={cache}"] if config.pluginmanager.hasplugin("cacheprovider") else []),
        *options,
        *given[end:],
    ]

"""The `pagedkv` command line.

One module for each command, with `add_parser` and `run`; `pagedkv.cli.app` lists them.
"""

from pagedkv.cli.app import main

__all__ = ["main"]

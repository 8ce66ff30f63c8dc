"""Writing changes to baseline files, and saying how far that came."""

from collections.abc import Mapping

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.store import Baselines

__all__ = ["write_all"]


def write_all(baselines: Baselines, changes: Mapping[str, Entry | None]) -> list[str]:
    """Make these changes on disk, file by file, after trying whether all can be written.

    Returns:
        The files that were written, as messages name them.

    Raises:
        BaselineError: a file cannot be written, and is as it was; the message names those that were.
    """
    if not changes:
        return []
    baselines.check_writable(changes)
    written: list[str] = []
    for part in baselines.by_file(changes):
        try:
            baselines.write(part)
        except BaselineError as error:
            done = f"; written before: {', '.join(written)}" if written else "; nothing was written"
            raise BaselineError(f"{error}{done}") from error
        written.append(baselines.shown_file(next(iter(part))))
    return written

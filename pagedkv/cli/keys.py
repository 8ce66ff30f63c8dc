"""Single keys from a terminal, while something is shown."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["key_pressed", "keys"]


@contextmanager
def keys(terminal: TextIO) -> Iterator[None]:
    """Get keys at once and unseen, if this is a terminal; it is as before at the end."""
    if not terminal.isatty():
        yield
        return
    import termios
    import tty

    handle = terminal.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def key_pressed(terminal: TextIO, timeout_s: float) -> str:
    """The next key; "" if none was pressed within so many seconds."""
    if not terminal.isatty():
        time.sleep(timeout_s)
        return ""
    ready, _, _ = select.select([terminal], [], [], timeout_s)
    return os.read(terminal.fileno(), 1).decode(errors="replace") if ready else ""

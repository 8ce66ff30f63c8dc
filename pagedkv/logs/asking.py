"""Whether anybody wants log lines, and where they go."""

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from pagedkv import events as ev
from pagedkv.errors import ConfigError
from pagedkv.logs.cache import CacheLog, Observable
from pagedkv.logs.offload import OffloadLog
from pagedkv.logs.scheduler import SchedulerLog
from pagedkv.logs.steps import StepTimeLog

__all__ = ["ENV_VAR", "attach_if_asked", "attach_scheduler_if_asked"]

ENV_VAR = "PAGEDKV_LOG_LEVEL"
_LEVELS = ("debug", "info", "warning", "error", "critical")
_log = logging.getLogger("pagedkv")


def attach_if_asked(cache: Observable, environ: Mapping[str, str] = os.environ) -> None:
    """Log what a cache does if PAGEDKV_LOG_LEVEL is set.

    Raises:
        ConfigError: it is set to something that is no level.
    """
    if _is_asked(environ):
        cache.events.attach(CacheLog(cache))
        cache.events.attach(OffloadLog())


def attach_scheduler_if_asked(
    events: ev.EventStream, average_steps: int, environ: Mapping[str, str] = os.environ
) -> bool:
    """Log what a scheduler does if PAGEDKV_LOG_LEVEL is set; returns whether debug lines are written.

    Raises:
        ConfigError: it is set to something that is no level.
    """
    if not _is_asked(environ):
        return False
    events.attach(SchedulerLog(average_steps))
    events.attach(StepTimeLog())
    return _log.isEnabledFor(logging.DEBUG)


def _is_asked(environ: Mapping[str, str]) -> bool:
    """Whether anything is to be logged; sets the logger up for it."""
    level = environ.get(ENV_VAR, "").lower()
    if not level:
        return False
    if level not in _LEVELS:
        raise ConfigError(f"{ENV_VAR} is {environ[ENV_VAR]!r}; it must be one of {', '.join(_LEVELS)}")
    if not _log.hasHandlers():
        _log.addHandler(_StderrHandler())
    _log.setLevel(level.upper())
    return _log.isEnabledFor(logging.WARNING)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time, bare lines."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """The base class sets the stream that it saw when it was made."""

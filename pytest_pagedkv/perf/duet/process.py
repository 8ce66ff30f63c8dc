"""A timing process, seen from the process that decides."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pytest_pagedkv.perf.caretaker import Caretaker
from pytest_pagedkv.perf.child import TAIL_LINES, ending, tail
from pytest_pagedkv.perf.duet.channel import Channel, ChannelClosedError, ChannelError, SilenceError

__all__ = ["Command", "DuetError", "TimingProcess"]

_GRACE_S = 10.0
_LAST_WORDS_S = 3.0
_FAULT_HANDLER = "(most recent call first)"
_FRAMES = ("/_pytest/", "/pluggy/", "/pytest/__main__.py", "<frozen runpy>")
"""What is in every trace."""


class DuetError(Exception):
    """A comparison that cannot be made: what went wrong, on which side, and what can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a timing process.

    Attributes:
        side: "base" or "head", for messages.
        arguments: the command line.
        folder: where to start it.
        environment: its environment variables.
    """

    side: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


class TimingProcess:
    """A process that measures on demand; at the end of the context it is gone.

    Args:
        command: how to start it.
        output: file that takes what it prints.
        caretaker: kills it if this process dies.
        timeout_s: limit of an answer.

    Attributes:
        side: "base" or "head".
        doing: the benchmark that it was asked for last, for messages.
    """

    def __init__(self, command: Command, output: Path, caretaker: Caretaker, timeout_s: float) -> None:
        self.side = command.side
        self.doing = ""
        self._output = output
        self._caretaker = caretaker
        self._timeout_s = timeout_s
        self._process, self._channel = _started(command, output)
        caretaker.watch_process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._channel.close()
        self._kill()  # all of its tests have been torn down, and what pytest says at the end nobody reads

    def send(self, **message: Any) -> None:
        """Ask for something.

        Raises:
            DuetError: the process has died.
        """
        try:
            self._channel.send(message)
        except ChannelError as error:
            raise self._trouble(error) from error

    def receive(self, *kinds: str) -> dict[str, Any]:
        """The answer.

        Args:
            *kinds: what it may be.

        Raises:
            DuetError: the process has died, hangs, or answers something else.
        """
        try:
            answer = self._channel.receive(self._timeout_s)
        except ChannelError as error:
            raise self._trouble(error) from error
        if answer.get("is") not in kinds:
            raise DuetError(
                f"the {self.side}'s timing process answers {answer!r:.200} where it should say "
                f"{' or '.join(kinds)}.{self._tail()}"
            )
        return answer

    def ask(self, *kinds: str, **message: Any) -> dict[str, Any]:
        """Ask, and wait for the answer; raises as `send` and `receive` do."""
        self.send(**message)
        return self.receive(*kinds)

    def _trouble(self, error: ChannelError) -> DuetError:
        if isinstance(error, SilenceError):
            what = (
                f"has said nothing for {self._timeout_s:g} s and was killed (its limit: the ini value "
                "pagedkv_duet_timeout_s)"
            )
            self._abort()
        elif isinstance(error, ChannelClosedError):
            what = f"ended before its work was done ({self._ending()})"
        else:
            what = f"says what cannot be understood: {error}"
        at = f" at {self.doing}" if self.doing else ""
        return DuetError(f"the {self.side}'s timing process {what}{at}.{self._tail()}")

    def _ending(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return ending(self._process.wait(_GRACE_S))
        return "it closed its pipe"

    def _abort(self) -> None:
        """Kill it in the way that lets Python's faulthandler print where it hangs."""
        self._process.send_signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        self._kill()

    def _kill(self) -> None:
        """End the process and all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._caretaker.forget_process(self._process.pid)

    def _tail(self) -> str:
        text = self._output.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        traces = [number for number, line in enumerate(lines) if _FAULT_HANDLER in line]
        if traces:
            lines = [line for line in lines[traces[-1] :] if not any(name in line for name in _FRAMES)]
        shown = tail(lines[:TAIL_LINES] if traces else lines)
        return f"\nThe end of its output:{shown}" if shown else ""


def _started(command: Command, output: Path) -> tuple[subprocess.Popen[bytes], Channel]:
    to_worker, from_worker = os.pipe(), os.pipe()
    theirs = (to_worker[0], from_worker[1])
    channel = Channel(from_worker[0], to_worker[1])
    try:
        with output.open("wb") as stdout:
            process = subprocess.Popen(  # noqa: S603 - the user's own command
                command.arguments,
                cwd=command.folder,
                env={**command.environment, "PAGEDKV_DUET": ",".join(map(str, theirs))},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                pass_fds=theirs,
                start_new_session=True,
            )
    except OSError as error:
        channel.close()
        raise DuetError(
            f"the {command.side}'s timing process cannot be started: {command.arguments[0]}: {error.strerror}"
        ) from error
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return process, channel

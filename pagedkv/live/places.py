"""Where the sockets of engines are, and which of them answer."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from pagedkv.errors import ConfigError, PagedKVError
from pagedkv.live.sockets import holder, is_stale

__all__ = ["ENV_VAR", "asked_path", "default_folder", "live_sockets", "socket_of"]

ENV_VAR = "PAGEDKV_DEBUG_SOCKET"
_ON, _OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_NAME = re.compile(r"engine-(\d+)(?:-\d+)?\.sock")
_PID_MARKS = ("%p", "{pid}")


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where sockets are that were asked for without a path: this user's own folder."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK):
        return Path(runtime) / "pagedkv"
    return Path(f"/tmp/pagedkv-{os.geteuid()}")  # noqa: S108 - its owner and mode are checked


def asked_path(
    asked: "str | os.PathLike[str] | bool | None", environ: Mapping[str, str] = os.environ
) -> Path | None:
    """Where an engine is to have its socket; None for nowhere.

    Args:
        asked: a path, in which `%p` or `{pid}` stand for this process; a folder, for a name of its own in it;
            True for one in the default folder; False for none; None for what `PAGEDKV_DEBUG_SOCKET` says.
        environ: the environment.

    Raises:
        ConfigError: it is none of these, or the default folder is not this user's alone.
    """
    if asked is None:
        word = environ.get(ENV_VAR, "")
        asked = True if word.lower() in _ON else False if word.lower() in _OFF else word
    if isinstance(asked, bool):
        return _free_name(_own_folder(environ)) if asked else None
    if not isinstance(asked, (str, os.PathLike)) or not os.fspath(asked):
        raise ConfigError(f"debug_socket is {asked!r:.60}; it must be a path, a folder, True, False or None")
    path = Path(_with_pid(os.fspath(asked), str(os.getpid()))).absolute()
    return _free_name(path) if path.is_dir() else path


def live_sockets(environ: Mapping[str, str] = os.environ) -> dict[Path, int]:
    """Sockets of this user's engines that answer, with the processes that have them.

    Those in the default folder, and where `PAGEDKV_DEBUG_SOCKET` of this process points.
    """
    found: dict[Path, int] = {}
    for path in _candidates(environ):
        pid = holder(path)
        if pid is not None:
            found[path] = pid
    return found


def socket_of(pid: int | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The one socket that answers, of this process or, with None, of all of this user's.

    Raises:
        PagedKVError: there is none, or there are several; they are listed.
    """
    live = live_sockets(environ)
    found = [path for path, owner in live.items() if pid in (None, owner)]
    if len(found) == 1:
        return found[0]
    of = "" if pid is None else f" of process {pid}"
    if found:
        raise PagedKVError(
            f"{len(found)} engines{of} answer: choose one with --socket, of "
            + ", ".join(f"{path} (pid {live[path]})" for path in found)
        )
    raise PagedKVError(f"no engine{of} answers{_why_not(pid, environ)}")


def sweep(folder: Path) -> None:
    """Remove sockets of dead processes from a folder of ours."""
    for path in folder.glob("engine-*.sock"):
        if _NAME.fullmatch(path.name) and is_stale(path):
            path.unlink(missing_ok=True)


def _why_not(pid: int | None, environ: Mapping[str, str]) -> str:
    if pid is not None and not Path(f"/proc/{pid}").exists():
        return ": there is no such process"
    if pid is not None and (owner := Path(f"/proc/{pid}").stat().st_uid) != os.geteuid():
        return f": the process belongs to user {owner}, and only its own user may ask"
    return (
        f" in {default_folder(environ)}: start it with {ENV_VAR}=1 or debug_socket=True, or name its socket "
        "with --socket if it is elsewhere"
    )


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    paths = sorted(default_folder(environ).glob("engine-*.sock"))
    word = environ.get(ENV_VAR, "")
    if word.lower() not in (*_ON, *_OFF):
        place = Path(_with_pid(word, "*"))
        paths += sorted(place.glob("engine-*.sock") if place.is_dir() else _matching(place))
    return list(dict.fromkeys(path for path in paths if _is_own_socket(path)))


def _matching(place: Path) -> list[Path]:
    return list(place.parent.glob(place.name)) if "*" not in str(place.parent) else []


def _is_own_socket(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def _with_pid(text: str, pid: str) -> str:
    for mark in _PID_MARKS:
        text = text.replace(mark, pid)
    return text


def _free_name(folder: Path) -> Path:
    """A name in a folder that no live engine of this process has."""
    sweep(folder)
    first = folder / f"engine-{os.getpid()}.sock"
    others = (folder / f"engine-{os.getpid()}-{number}.sock" for number in range(2, 10_000))
    return next(path for path in (first, *others) if not os.path.lexists(path))


def _own_folder(environ: Mapping[str, str]) -> Path:
    """The default folder, which is made if it is not there."""
    folder = default_folder(environ)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(
            f"{folder} is not a folder of user {os.geteuid()} alone (mode {status.st_mode & 0o777:o}, owner "
            f"{status.st_uid}): remove it, or name another place with {ENV_VAR} or debug_socket"
        )
    return folder

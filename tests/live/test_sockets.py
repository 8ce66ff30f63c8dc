"""Where sockets are, and who may use them."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagedkv.errors import ConfigError, EngineUnreachable, PagedKVError
from pagedkv.live import ask, asked_path, live_sockets, socket_of
from pagedkv.live.places import ENV_VAR
from tests.live.talking import answering, serving

SERVE = """
import sys, time
from pathlib import Path
from pagedkv.live import DebugServer
server = DebugServer(Path(sys.argv[1]), lambda _: {"schema_version": 1})
print("ready", flush=True)
time.sleep(60)
"""


def dead_socket(path: Path) -> None:
    """The socket of a process that was killed."""
    with subprocess.Popen([sys.executable, "-c", SERVE, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert path.is_socket()


def test_only_its_user_may_use_a_socket(folder: Path) -> None:
    """Mode 0600, and nothing else is left in the folder."""
    folder.chmod(0o755)
    with serving(folder / "s"):
        assert stat.S_IMODE((folder / "s").lstat().st_mode) == 0o600
        assert [each.name for each in folder.iterdir()] == ["s"]


def test_the_socket_is_never_open_to_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is bound, nobody else can reach it; when it is moved, it has its mode."""
    bind, replace, seen = socket.socket.bind, Path.replace, []

    class Socket(socket.socket):
        def bind(self, at: str) -> None:  # type: ignore[override]
            bind(self, at)
            seen.append(stat.S_IMODE(Path(at).parent.lstat().st_mode))

    def moved(path: Path, to: Path) -> Path:
        seen.append(stat.S_IMODE(path.lstat().st_mode))
        return replace(path, to)

    monkeypatch.setattr("socket.socket", Socket)
    monkeypatch.setattr(Path, "replace", moved)
    with serving(folder / "s"):
        assert seen == [0o700, 0o600]


def test_a_dead_socket_gives_way(folder: Path) -> None:
    """Its process is gone; until then the client says so."""
    dead_socket(folder / "s")
    with pytest.raises(EngineUnreachable, match="is dead"):
        ask(folder / "s")

    with serving(folder / "s"):
        assert ask(folder / "s")["schema_version"] == 1


def test_a_live_socket_is_refused(folder: Path) -> None:
    """With who has it; it goes on."""
    with serving(folder / "s"):
        with pytest.raises(ConfigError, match=f"process {os.getpid()} answers there"), serving(folder / "s"):
            pass
        assert ask(folder / "s")["schema_version"] == 1


def test_a_file_in_the_way_is_refused_and_kept(folder: Path) -> None:
    """Also a link, whatever it points at."""
    (folder / "f").write_text("precious")
    (folder / "l").symlink_to(folder / "f")
    for name in ("f", "l"):
        with pytest.raises(ConfigError, match="no socket; remove it"), serving(folder / name):
            pass
    assert (folder / "f").read_text() == "precious"
    assert (folder / "l").is_symlink()


def test_a_socket_that_was_replaced_is_left_alone(folder: Path) -> None:
    """Closing removes one's own socket only."""
    with serving(folder / "s"):
        (folder / "s").unlink()
        (folder / "s").write_text("another's")

    assert (folder / "s").read_text() == "another's"


def test_paths_that_no_socket_can_have(folder: Path) -> None:
    """Too long, or in no folder."""
    with pytest.raises(ConfigError, match="at most 107 bytes"), serving(folder / ("x" * 120)):
        pass
    with pytest.raises(ConfigError, match="No such file"), serving(folder / "none" / "s"):
        pass


def test_a_forked_child_neither_serves_nor_removes(folder: Path) -> None:
    """It ends as if it had never had the socket, and the parent's answers."""
    with serving(folder / "s") as server:
        pid = os.fork()
        if not pid:
            server.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert ask(folder / "s")["schema_version"] == 1


def test_a_dead_parent_is_dead_though_its_child_lives(folder: Path) -> None:
    """A child that was forked does not hold the socket open."""
    program = SERVE.replace("print", "import os\nif os.fork():\n    time.sleep(60)\nprint")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "s")], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.kill()
            process.wait()
            with pytest.raises(EngineUnreachable, match="is dead"):
                ask(folder / "s")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("word", ["", "0", "off", None])
def test_there_is_no_socket_unless_it_is_asked_for(word: str | None) -> None:
    """Neither by default nor by a variable that says no."""
    assert asked_path(None, {} if word is None else {ENV_VAR: word}) is None
    assert asked_path(False, {ENV_VAR: "1"}) is None


def test_where_a_socket_is(folder: Path) -> None:
    """A path as it is, the process in it, a name of its own in a folder, the user's own folder."""
    pid, environ = os.getpid(), {"XDG_RUNTIME_DIR": str(folder)}

    assert asked_path(folder / "s", environ) == folder / "s"
    assert asked_path(f"{folder}/a-%p-{{pid}}", environ) == folder / f"a-{pid}-{pid}"
    assert asked_path(folder, environ) == folder / f"engine-{pid}.sock"
    assert asked_path(True, environ) == folder / "pagedkv" / f"engine-{pid}.sock"
    assert asked_path(None, environ | {ENV_VAR: "1"}) == folder / "pagedkv" / f"engine-{pid}.sock"
    assert asked_path(None, environ | {ENV_VAR: f"{folder}/x"}) == folder / "x"
    assert stat.S_IMODE((folder / "pagedkv").lstat().st_mode) == 0o700
    with pytest.raises(ConfigError, match="debug_socket is 3"):
        asked_path(3, environ)  # type: ignore[arg-type]


def test_several_engines_of_a_process_have_names_of_their_own(folder: Path) -> None:
    """The second gets a number; sockets of the dead are swept away."""
    dead_socket(folder / "engine-1.sock")
    first = asked_path(folder)
    assert first is not None
    assert not (folder / "engine-1.sock").exists()
    with serving(first):
        assert asked_path(folder) == folder / f"engine-{os.getpid()}-2.sock"


def test_a_folder_of_others_is_refused(folder: Path) -> None:
    """The usual place has to be this user's alone."""
    (folder / "pagedkv").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="alone"):
        asked_path(True, {"XDG_RUNTIME_DIR": str(folder)})


def test_live_engines_are_found(folder: Path) -> None:
    """By process, or by being the only one; the dead do not count, and several are listed."""
    environ = {"XDG_RUNTIME_DIR": str(folder)}
    with pytest.raises(PagedKVError, match=f"no engine answers in {folder}/pagedkv: start it with"):
        socket_of(None, environ)
    first = asked_path(True, environ)
    assert first is not None
    with serving(first):
        dead_socket(folder / "pagedkv" / "engine-1.sock")
        assert live_sockets(environ) == {first: os.getpid()}
        assert socket_of(None, environ) == socket_of(os.getpid(), environ) == first
        with pytest.raises(PagedKVError, match="no engine of process 99999999 answers: there is no such"):
            socket_of(99999999, environ)
        second = asked_path(True, environ)
        assert second is not None
        with serving(second), pytest.raises(PagedKVError, match="2 engines answer: choose one with --socket"):
            socket_of(None, environ)
        with serving(folder / f"mine-{os.getpid()}"):
            found = live_sockets(environ | {ENV_VAR: f"{folder}/mine-%p"})
            assert set(found) == {first, folder / f"mine-{os.getpid()}"}


def test_nobody_else_is_served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of another user ends without a word, should it ever come to be."""
    with serving(folder / "s"):
        monkeypatch.setattr("pagedkv.live.server.peer", lambda _: (1, os.geteuid() + 1))
        with pytest.raises(EngineUnreachable):
            ask(folder / "s")


@pytest.mark.parametrize(("make", "told"), [(False, "there is no such socket"), (True, "it is a file")])
def test_paths_where_nobody_answers(folder: Path, make: bool, told: str) -> None:
    """Nothing there, or a file."""
    if make:
        (folder / "s").touch()
    with pytest.raises(EngineUnreachable, match=told):
        ask(folder / "s")


def test_a_server_of_another_kind_is_found_out(folder: Path) -> None:
    """It holds the path, so it is refused like any other that lives."""
    with (
        answering(folder / "s", b""),
        pytest.raises(ConfigError, match="answers there"),
        serving(folder / "s"),
    ):
        time.sleep(0)

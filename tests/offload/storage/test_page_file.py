"""PageFile: a page is read as it was written, or there is an error; never anything else."""

import errno
import fcntl
import logging
import mmap
import os
from pathlib import Path

import pytest

from pagedkv.errors import ConfigError, CorruptPage, OffloadError
from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.page_file import PageFile
from tests.offload.storage.faulty_files import FaultyFiles, FileFault

STRIDE = 3 * 4096
PAGE = STRIDE - 1000


def page_file(folder: Path, files: FileLayer | None = None, **changes) -> PageFile:
    """Sixteen places of three units each."""
    settings = {"page_bytes": PAGE, "stride": STRIDE, "max_bytes": 16 * STRIDE, "files": files or FileLayer()}
    return PageFile(folder, **(settings | changes))


def buffer(fill: int = 0) -> memoryview:
    """Aligned memory for a page."""
    memory = memoryview(mmap.mmap(-1, STRIDE))
    memory[:] = bytes([fill]) * STRIDE
    return memory


def check_page(file: PageFile, place: int, fill: int) -> None:
    """Read a place into other memory, and compare."""
    found = buffer(255)
    file.read(place, found)
    assert found[:PAGE] == bytes([fill]) * PAGE


@pytest.mark.parametrize("direct_io", [True, False])
def test_places_keep_their_pages(tmp_path: Path, direct_io):
    """Each place its own, also when it is written again; nobody sees the file."""
    file = page_file(tmp_path, direct_io=direct_io)
    for place in (3, 0, 15):
        file.write(place, buffer(place))
    file.write(0, buffer(100))
    for place, fill in ((15, 15), (3, 3), (0, 100)):
        check_page(file, place, fill)
    assert file.num_places == 16
    assert not list(tmp_path.iterdir())
    file.close()


@pytest.mark.parametrize("kind", [FileFault.SHORT, FileFault.INTERRUPTED])
def test_calls_that_move_only_a_part_are_repeated(tmp_path: Path, kind):
    """Wherever a part ends: direct IO goes on at multiples of its unit."""
    files = FaultyFiles(seed=5, rates={kind: 0.5})
    file = page_file(tmp_path, files)
    for place in range(16):
        file.write(place, buffer(place))
        check_page(file, place, place)
    assert files.counts[kind] > 16
    file.close()


@pytest.mark.parametrize("kind", [FileFault.SHORT, FileFault.INTERRUPTED])
def test_a_disk_that_never_gets_on_is_given_up(tmp_path: Path, kind):
    """A page of one unit of which a part comes, again and again."""
    files = FaultyFiles()
    file = page_file(tmp_path, files, page_bytes=4096, stride=4096)
    file.write(1, buffer(1)[:4096])
    files.rates = {kind: 1.0}
    with pytest.raises(OffloadError, match=r"not read: .* calls in a row moved nothing") as caught:
        file.read(1, buffer()[:4096])
    assert not isinstance(caught.value, CorruptPage)
    with pytest.raises(OffloadError, match="not written"):
        file.write(2, buffer(2)[:4096])
    files.heal()
    found = buffer()[:4096]
    file.read(1, found)
    assert found == bytes([1]) * 4096
    file.close()


@pytest.mark.parametrize("kind", [FileFault.NO_SPACE, FileFault.IO_ERROR, FileFault.DENIED])
def test_a_write_that_fails(tmp_path: Path, kind):
    """The page is not there, others are, and later it works."""
    files = FaultyFiles()
    file = page_file(tmp_path, files)
    file.write(4, buffer(4))
    files.rates = {kind: 1.0}
    with pytest.raises(OffloadError, match=f"place 5 .* not written: .*{os.strerror(kind.value)}"):
        file.write(5, buffer(5))
    files.rates = {}
    check_page(file, 4, 4)
    with pytest.raises(CorruptPage, match=r"place 5 .* never written"):
        file.read(5, buffer())
    file.write(5, buffer(6))
    check_page(file, 5, 6)
    file.close()


def test_a_page_that_could_not_be_replaced_is_no_page(tmp_path: Path):
    """After half a write nobody knows what is there."""
    files = FaultyFiles()
    file = page_file(tmp_path, files)
    file.write(4, buffer(4))
    files.rates = {FileFault.IO_ERROR: 1.0}
    with pytest.raises(OffloadError):
        file.write(4, buffer(5))
    files.heal()
    with pytest.raises(CorruptPage):
        file.read(4, buffer())
    file.close()


@pytest.mark.parametrize("kind", [FileFault.IO_ERROR, FileFault.DENIED])
def test_a_read_that_fails_loses_nothing(tmp_path: Path, kind):
    """The error does not say that the page is corrupt, and later it is read."""
    files = FaultyFiles()
    file = page_file(tmp_path, files)
    file.write(4, buffer(4))
    files.rates = {kind: 1.0}
    with pytest.raises(OffloadError, match=f"place 4 .* not read: .*{os.strerror(kind.value)}") as caught:
        file.read(4, buffer())
    assert not isinstance(caught.value, CorruptPage)
    files.heal()
    check_page(file, 4, 4)
    file.close()


@pytest.mark.parametrize("kind", [FileFault.FLIPPED_BIT, FileFault.DELETED])
def test_bytes_that_changed_are_found(tmp_path: Path, kind):
    """And stay found; another page in the place is another page."""
    files = FaultyFiles(seed=3)
    file = page_file(tmp_path, files, page_bytes=STRIDE)
    file.write(4, buffer(4))
    files.next_reads[4 * STRIDE] = kind
    for _ in range(2):
        with pytest.raises(CorruptPage, match="place 4"):
            file.read(4, buffer())
    file.write(4, buffer(7))
    check_page(file, 4, 7)
    file.close()


def test_a_write_that_never_reached_the_disk_is_found(tmp_path: Path):
    """What was there before is a whole page, but not this one."""
    files = FaultyFiles()
    file = page_file(tmp_path, files)
    file.write(4, buffer(4))
    files.rates = {FileFault.LOST_WRITE: 1.0}
    file.write(4, buffer(5))
    files.heal()
    with pytest.raises(CorruptPage, match="checksum"):
        file.read(4, buffer())
    file.close()


@pytest.mark.parametrize(("size", "found"), [(4096, 4096), (4097, 4096), (8191, 4096), (1, 0), (0, 0)])
def test_a_file_that_was_cut(tmp_path: Path, size, found):
    """Places behind the cut are gone, one that is cut through too; places before it are not."""
    fds: list[int] = []

    class Watched(FileLayer):
        def open(self, path: Path, flags: int) -> int:
            fds.append(super().open(path, flags))
            return fds[-1]

    file = page_file(tmp_path, Watched())
    for place in (0, 1, 2):
        file.write(place, buffer(place))
    os.ftruncate(fds[-1], STRIDE + size)
    check_page(file, 0, 0)
    with pytest.raises(CorruptPage, match=f"place 1 .* {found} of {STRIDE} bytes"):
        file.read(1, buffer())
    with pytest.raises(CorruptPage, match="place 2"):
        file.read(2, buffer())
    file.write(2, buffer(9))
    check_page(file, 2, 9)
    file.close()


def test_a_disk_with_room_for_one_page(tmp_path: Path):
    """Where a whole segment cannot be reserved, a page still can."""

    class Small(FileLayer):
        def allocate(self, fd: int, offset: int, num_bytes: int) -> None:
            if num_bytes > STRIDE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().allocate(fd, offset, num_bytes)

    file = page_file(tmp_path, Small())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    file.close()


def test_a_file_system_that_cannot_reserve(tmp_path: Path):
    """It finds out when it writes."""

    class Unreserving(FileLayer):
        def allocate(self, fd: int, offset: int, num_bytes: int) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    file = page_file(tmp_path, Unreserving())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    file.close()


class Plain(FileLayer):
    """A file system that knows neither files without names nor direct IO; it remembers the names it saw."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_DIRECT or flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.opened.append((path.name, flags))
        return super().open(path, flags)


def test_a_plain_file_system(tmp_path: Path, caplog):
    """The page cache is used, one line says so, and the name is gone at once."""
    caplog.set_level(logging.INFO, "pagedkv")
    files = Plain()
    file = page_file(tmp_path, files)
    assert len(files.opened) == 1
    assert not list(tmp_path.iterdir())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"[Offload] {tmp_path} has no direct IO; the page cache is used"
    ]
    file.close()


def test_direct_io_that_is_refused_later(tmp_path: Path, caplog):
    """Some file systems open the file, and refuse to write it."""
    caplog.set_level(logging.INFO, "pagedkv")

    class Refusing(FileLayer):
        def write(self, fd: int, page: memoryview, offset: int) -> int:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return super().write(fd, page, offset)

    file = page_file(tmp_path, Refusing())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"[Offload] {tmp_path} refuses direct IO; the page cache is used"
    ]
    file.close()


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path):
    """Neither other files, nor folders, links and files in use that look like ours."""
    name = f"pagedkv-123-{'0a' * 16}.pages"
    (tmp_path / name).write_bytes(b"left behind")
    kept = {
        "notes.pages",
        f"x{name}",
        f"{name}.txt",
        f"pagedkv-123-{'0b' * 16}.pages",
        f"pagedkv-123-{'0c' * 16}.pages",
        f"pagedkv-123-{'0d' * 16}.pages",
    }
    for other in kept:
        if "0c" in other:
            (tmp_path / other).mkdir()
        elif "0d" in other:
            (tmp_path / other).symlink_to(tmp_path / "notes.pages")
        else:
            (tmp_path / other).write_bytes(b"somebody else's")
    in_use = os.open(tmp_path / f"pagedkv-123-{'0b' * 16}.pages", os.O_RDWR)
    fcntl.flock(in_use, fcntl.LOCK_EX)
    file = page_file(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (tmp_path / "notes.pages").read_bytes() == b"somebody else's"
    file.close()
    os.close(in_use)


def test_a_name_that_another_process_cleans_up_first(tmp_path: Path):
    """Between making a file and locking it, another may take it for one that was left behind."""

    class Robbed(Plain):
        def lock(self, fd: int) -> None:
            for path in tmp_path.iterdir():
                path.unlink()
            super().lock(fd)

    file = page_file(tmp_path, Robbed())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    file.close()


def test_a_name_that_another_process_is_about_to_clean_up(tmp_path: Path):
    """It has locked the file, and not removed its name yet: the name goes, and the file is used."""

    class Late(Plain):
        def lock(self, fd: int) -> None:
            [path] = tmp_path.iterdir()
            self.other = os.open(path, os.O_RDWR)
            super().lock(self.other)
            super().lock(fd)

    files = Late()
    file = page_file(tmp_path, files)
    assert not list(tmp_path.iterdir())
    file.write(3, buffer(3))
    check_page(file, 3, 3)
    file.close()
    os.close(files.other)


def test_folders_that_cannot_be_used(tmp_path: Path):
    """A file, a folder that is not there, and one that takes no files: refused with its name."""
    (tmp_path / "file").write_bytes(b"")

    class ReadOnly(FileLayer):
        def open(self, path: Path, flags: int) -> int:
            if flags & os.O_RDWR:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return super().open(path, flags)

    class NoFlags(FileLayer):
        def open(self, path: Path, flags: int) -> int:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    refused = (
        (tmp_path / "file", None),
        (tmp_path / "none", None),
        (tmp_path, ReadOnly()),
        (tmp_path, NoFlags()),
    )
    for folder, files in refused:
        with pytest.raises(ConfigError, match=f"{folder}"):
            page_file(folder, files)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path):
    """Refused with its name."""
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be used"):
        page_file(tmp_path)
    tmp_path.chmod(0o700)


def test_more_than_the_disk_has(tmp_path: Path, caplog):
    """As many places as there is room for, and a line that says so; not one place for each byte asked."""
    file = page_file(tmp_path, max_bytes=2**62)
    free = FileLayer().free_bytes(tmp_path)
    assert 0 < file.num_places <= 2 * free // STRIDE
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"nvme_bytes is {2**62}" in caplog.text
    file.write(0, buffer(1))
    check_page(file, 0, 1)
    file.close()


def test_a_file_system_that_does_not_tell_its_size(tmp_path: Path, monkeypatch):
    """Some say zero of everything; then the file has the places that were asked for."""
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    file = page_file(tmp_path)
    assert file.num_places == 16
    file.close()


@pytest.mark.parametrize(("max_bytes", "free"), [(STRIDE - 1, 2**40), (2**40, STRIDE - 1)])
def test_no_room_for_a_page(tmp_path: Path, max_bytes, free):
    """Refused with all three numbers, and the file is given back."""
    closed = []
    files = FileLayer()
    files.free_bytes = lambda _: free
    files.close = lambda fd: closed.append(os.close(fd))
    with pytest.raises(
        ConfigError, match=rf"{STRIDE} in the file, nvme_bytes is {max_bytes}, .* {free} left"
    ):
        page_file(tmp_path, files, max_bytes=max_bytes)
    assert len(closed) == 1


def test_the_same_seed_makes_the_same_faults(tmp_path: Path):
    """Whatever the order of places."""

    def outcomes(order: range) -> dict[int, str]:
        rates = {FileFault.IO_ERROR: 0.3, FileFault.FLIPPED_BIT: 0.3}
        files, found = FaultyFiles(seed=9), {}
        file = page_file(tmp_path, files, direct_io=False)
        files.rates = rates
        for place in order:
            found[place] = _outcome(file, place)
        file.close()
        return found

    first = outcomes(range(16))
    assert first == outcomes(range(15, -1, -1))
    assert set(first.values()) == {"OffloadError", "CorruptPage", "read"}


def _outcome(file: PageFile, place: int) -> str:
    try:
        file.write(place, buffer(place))
        check_page(file, place, place)
    except OffloadError as error:
        return type(error).__name__
    return "read"

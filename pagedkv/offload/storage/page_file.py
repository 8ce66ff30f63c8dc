"""Pages in one file: places by number, checked when they are read."""

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from xxhash import xxh3_64_intdigest

from pagedkv.errors import ConfigError, CorruptPage, OffloadError
from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.file_names import open_nameless
from pagedkv.offload.storage.host_pool import PAGE_ALIGNMENT

__all__ = ["PageFile"]

_SEGMENT_BYTES = 256 << 20
_MOST_IDLE_TRIES = 8
"""Calls in a row that move nothing of a page, after which it is given up."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_log = logging.getLogger("pagedkv")


class PageFile:
    """Places for pages in a file that nobody else sees, and that goes away with the process.

    Different places may be read and written by different threads at once.

    Args:
        folder: where; it must exist.
        page_bytes: bytes of a page.
        stride: bytes of a place, a multiple of `PAGE_ALIGNMENT`; all of them are moved.
        max_bytes: size of the file at most.
        direct_io: past the page cache of the operating system, where the file system can.
        files: the system calls.
        has_checksums: whether what is read is compared with what was written; for measuring.

    Attributes:
        num_places: places; their number is lower than was asked for where the file system has less room.

    Raises:
        ConfigError: the folder cannot be used, or the file would hold no page.
    """

    def __init__(
        self,
        folder: Path,
        *,
        page_bytes: int,
        stride: int,
        max_bytes: int,
        direct_io: bool = True,
        files: FileLayer,
        has_checksums: bool = True,
    ) -> None:
        self._folder, self._page_bytes, self._stride = folder, page_bytes, stride
        self._files, self._has_checksums = files, has_checksums
        self._checksums: dict[int, int] = {}
        self._reserved: set[int] = set()
        self._is_direct = direct_io
        self._changing = threading.Lock()
        self._segment = max(1, _SEGMENT_BYTES // stride)
        self._fd = open_nameless(folder, files, direct_io=direct_io)
        try:
            self.num_places = self._fitting(max_bytes)
        except BaseException:
            files.close(self._fd)
            raise

    def write(self, place: int, page: memoryview) -> None:
        """Write a place.

        Args:
            place: which.
            page: `stride` bytes, the page and what pads it, at a multiple of `PAGE_ALIGNMENT`.

        Raises:
            OffloadError: it was not written, and what was there before may be lost. Trying again may help.
        """
        self._checksums.pop(place, None)
        try:
            self._reserve(place)
            if self._move(self._files.write, place, page) < self._stride:
                raise OffloadError(f"{self._named(place)} was not written: the file takes no more")
        except OSError as error:
            raise OffloadError(f"{self._named(place)} was not written: {error}") from error
        self._checksums[place] = self._checksum(page)

    def read(self, place: int, page: memoryview) -> None:
        """Read a place as it was last written.

        Args:
            place: which.
            page: `stride` bytes, where it goes; undefined after an error.

        Raises:
            CorruptPage: it is not what was written, or nothing was.
            OffloadError: it was not read. What is there is not lost by that.
        """
        if place not in self._checksums:
            raise CorruptPage(f"{self._named(place)} was never written, or writing it failed")
        try:
            found = self._move(self._files.read, place, page)
        except OSError as error:
            raise OffloadError(f"{self._named(place)} was not read: {error}") from error
        if found < self._stride:
            raise CorruptPage(
                f"{self._named(place)} ends after {found} of {self._stride} bytes: the file was cut"
            )
        if self._checksum(page) != self._checksums[place]:
            raise CorruptPage(f"{self._named(place)} has another checksum than what was written")

    def forget_all(self) -> None:
        """All places are as if they had never been written."""
        self._checksums.clear()

    def close(self) -> None:
        """Give the file back; nobody may be reading or writing it."""
        self._files.close(self._fd)

    def _checksum(self, page: memoryview) -> int:
        return xxh3_64_intdigest(page[: self._page_bytes]) if self._has_checksums else 0

    def _named(self, place: int) -> str:
        return f"place {place} of the page file in {self._folder}"

    def _fitting(self, max_bytes: int) -> int:
        free = self._files.free_bytes(self._folder)
        if free // self._stride < 1 or max_bytes < self._stride:
            raise ConfigError(
                f"a page of {self._page_bytes} bytes takes {self._stride} in the file, nvme_bytes is "
                f"{max_bytes}, and {self._folder} has {free} left: there must be room for at least one"
            )
        if max_bytes > free:
            _log.warning(
                "[Offload] nvme_bytes is %d, and %s has %d left: the file may have %d pages instead of %d",
                max_bytes,
                self._folder,
                free,
                free // self._stride,
                max_bytes // self._stride,
            )
        return min(max_bytes, free) // self._stride

    def _reserve(self, place: int) -> None:
        """Make sure that a full disk is found before a page is written.

        Segments are reserved one after another, because a C library whose file system cannot reserve does it
        by writing zeros.
        """
        segment = place // self._segment
        if segment in self._reserved:
            return
        with self._changing:
            if segment in self._reserved:
                return
            first = segment * self._segment
            end = min(first + self._segment, self.num_places)
            try:
                self._allocate(first, end - first)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._allocate(place, 1)
            else:
                self._reserved.add(segment)

    def _allocate(self, place: int, num_places: int) -> None:
        try:
            self._files.allocate(self._fd, place * self._stride, num_places * self._stride)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise

    def _move(self, call: Callable[[int, memoryview, int], int], place: int, page: memoryview) -> int:
        """Read or write all of a place; the bytes that were moved, fewer only at the end of the file."""
        start, done, num_idle = place * self._stride, 0, 0
        while done < self._stride:
            was_direct = self._is_direct
            try:
                moved = call(self._fd, page[done:], start + done)
            except InterruptedError:
                moved = -1
            except OSError as error:
                if error.errno != errno.EINVAL or not was_direct:
                    raise
                self._use_page_cache()
                continue
            if moved == 0:
                break
            whole = max(0, moved)
            if done + whole < self._stride:
                whole -= whole % PAGE_ALIGNMENT  # direct IO goes on only there
            done += whole
            num_idle = 0 if whole else num_idle + 1
            if num_idle > _MOST_IDLE_TRIES:
                if done < self._files.size(self._fd) - start < done + PAGE_ALIGNMENT:
                    break  # the file ends in the middle of what direct IO moves at least
                raise OSError(errno.EIO, f"{num_idle} calls in a row moved nothing")
        return done

    def _use_page_cache(self) -> None:
        """Some file systems open a file for direct IO and then refuse it."""
        with self._changing:
            if self._is_direct:
                self._files.stop_direct_io(self._fd)
                self._is_direct = False
                _log.info("[Offload] %s refuses direct IO; the page cache is used", self._folder)

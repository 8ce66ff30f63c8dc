"""The processes of a torchrun that serve one model together, and what they tell each other."""

import logging
import os
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, Self

import torch
import torch.distributed as dist

from pagedkv.errors import ConfigError, InvariantError, ModelError, PagedKVError

__all__ = ["Ranks", "portable"]

_log = logging.getLogger("pagedkv")
_TIMEOUT = timedelta(minutes=10)
_MOST_NUMBERS = 2


class Ranks:
    """This process and its peers.

    Tensors of the model go through the default process group (NCCL on GPUs, gloo on CPUs), what schedulers
    and samplers agree on through one of gloo. Every rank has to make the same calls in the same order; one
    that waits for the others longer than ten minutes raises. After an error that the others do not know of,
    a rank refuses to go on: its calls would be answered by those that the others made before.

    Attributes:
        rank: this process, from 0.
        size: how many there are.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._control = _control(dist.group.WORLD)
        self._fault: str | None = None

    @classmethod
    def start(cls, size: int | None, device: torch.device | str | None) -> Self | None:
        """Join the other processes.

        Args:
            size: how many share a model; None for all that torchrun has started.
            device: what they compute on; None for a GPU each, if there are any.

        Returns:
            None if one process is all there is, or all that was asked for.

        Raises:
            ConfigError: the size is not that of torchrun, or there are fewer GPUs than processes.
        """
        started = dist.get_world_size() if _is_running() else int(os.environ.get("WORLD_SIZE", "1"))
        if size is not None and (type(size) is not int or size < 1):
            raise ConfigError(f"tensor_parallel_size is {size!r}; it must be an int of at least 1, or None")
        if (started if size is None else size) == 1:
            return None
        if size not in (None, started):
            raise ConfigError(
                f"tensor_parallel_size is {size}, and the number of processes running is {started}: "
                f"start as many, torchrun --nproc-per-node {size} ..."
            )
        kind = _settled_kind(device)
        if not _is_running():
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_TIMEOUT)
        ranks = cls()
        _log.info("[Ranks] rank %d of %d, on %s", ranks.rank, ranks.size, kind)
        return ranks

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which decides."""
        return self.rank == 0

    # ---- tensors of the model

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        dist.all_reduce(tensor)
        return tensor

    def side_by_side(self, tensor: torch.Tensor) -> torch.Tensor:
        """What all ranks have, next to each other in the last dimension."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor)
        return torch.cat(parts, dim=-1)

    # ---- what they agree on

    def every(self, doing: str, *numbers: int) -> list[list[int]]:
        """These numbers of every rank, in order; all give equally many.

        Args:
            doing: what they are for, in words that are the same everywhere.
            numbers: at most two.

        Raises:
            InvariantError: another rank was to do something else. None of them can go on then.
        """
        self._require_sound()
        padding = _MOST_NUMBERS - len(numbers)
        mine = torch.tensor([zlib.crc32(doing.encode()), *numbers] + [0] * padding, dtype=torch.int64)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with self._talking():
            dist.all_gather(found, mine, group=self._control)
        self._require_same(doing, [int(each[0]) for each in found])
        return [each.tolist()[1 : 1 + len(numbers)] for each in found]

    def of_first(self, numbers: torch.Tensor) -> torch.Tensor:
        """What rank 0 has, in place. Any shape and dtype, the same everywhere, on the CPU."""
        self._require_sound()
        with self._talking():
            dist.broadcast(numbers, 0, group=self._control)
        return numbers

    def object_of_first(self, value: Any) -> Any:
        """What rank 0 has; what the others give does not matter."""
        pickled = pickle.dumps(value) if self.is_first else b""
        length = int(self.of_first(torch.tensor([len(pickled)]))[0])
        sent = bytearray(pickled) if self.is_first else bytearray(length)
        told = self.of_first(torch.frombuffer(sent, dtype=torch.uint8))
        return pickle.loads(told.numpy().tobytes())  # noqa: S301 - it comes from a process of ours

    # ---- faults

    @contextmanager
    def together(self, doing: str) -> Iterator[None]:
        """Do what no rank waits for others in; where one fails, all do.

        Args:
            doing: what it is, for messages.

        Raises:
            ModelError: another rank failed; says which, and why.
            InvariantError: another rank was to do something else.
        """
        fault: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again below, when the others know
            fault = error
        said = b"" if fault is None else f"{type(fault).__name__}: {fault}".encode()
        lengths = [length for (length,) in self.every(f"hear of {doing}", len(said))]
        told = self._texts(said, max(lengths)) if any(lengths) else []
        if fault is not None:
            raise fault
        for rank, text in enumerate(told):
            if text:
                raise ModelError(f"rank {rank} of {self.size} failed in {doing}: {text}")

    @contextmanager
    def fatal(self, doing: str) -> Iterator[None]:
        """Do what ranks wait for each other in: an error leaves this one out of step for good.

        Args:
            doing: what it is, for messages.
        """
        try:
            yield
        except BaseException as error:
            self._fault = f"it failed in {doing}: {type(error).__name__}: {error}"
            raise

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            with self.fatal("talking to the others"):
                yield
        except RuntimeError as error:
            raise ModelError(
                f"rank {self.rank} of {self.size} has lost the others: one of them has ended, or has not "
                f"answered for {_TIMEOUT.total_seconds():.0f} s ({error})"
            ) from error

    def _texts(self, mine: bytes, length: int) -> list[str]:
        """The texts of all ranks, of which the longest has this length."""
        sent = torch.frombuffer(bytearray(mine.ljust(length, b"\0")), dtype=torch.uint8)
        found = [torch.empty_like(sent) for _ in range(self.size)]
        with self._talking():
            dist.all_gather(found, sent, group=self._control)
        return [each.numpy().tobytes().rstrip(b"\0").decode() for each in found]

    def _require_same(self, doing: str, every: list[int]) -> None:
        """Every rank has said what it does, as a checksum."""
        others = [str(rank) for rank, each in enumerate(every) if each != every[self.rank]]
        if others:
            self._fault = f"it was to {doing}, and ranks {', '.join(others)} something else"
            self._require_sound()

    def _require_sound(self) -> None:
        if self._fault is not None:
            raise InvariantError(
                f"rank {self.rank} of {self.size} is out of step with the others since "
                f"{self._fault}; end all of them, and start again"
            )


def portable(error: Exception) -> PagedKVError:
    """An error that another process can raise: ours as they are, others by what they say."""
    return error if isinstance(error, PagedKVError) else ModelError(f"{type(error).__name__}: {error}")


@cache
def _control(_: Any) -> Any:
    """The group of gloo beside a default one. It stays: groups that come and go do not always meet again."""
    return dist.new_group(backend="gloo", timeout=_TIMEOUT)


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()


def _settled_kind(device: torch.device | str | None) -> str:
    """The type of device that the ranks compute on; on GPUs, this one from now on uses its own."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    settled = torch.device(device)
    if settled.type != "cuda":
        return settled.type
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if settled.index not in (None, local):
        raise ConfigError(
            f"device is {device!r} on local rank {local}: every rank has a GPU of its own; say cuda"
        )
    if local >= torch.cuda.device_count():
        raise ConfigError(
            f"this is local rank {local}, and the machine has {torch.cuda.device_count()} GPUs; "
            "start no more processes than it has"
        )
    torch.cuda.set_device(local)
    return settled.type

"""Every error that pagedkv raises on purpose.

    PagedKVError
    ├── ConfigError (ValueError)            a setting, or a combination of settings, that cannot work
    ├── InvalidRequest (ValueError)         an argument that no state of the cache could serve
    │   ├── DuplicateSequence               a sequence id that is already taken, or named twice in one batch
    │   ├── DuplicateRequest                a request id that is already taken
    │   ├── KernelInputError                tensors that a kernel cannot work on; nothing was launched
    │   └── RequestRefused                  a request that can never run, whatever else ends
    ├── AllocationError
    │   ├── OutOfBlocks                     not enough blocks now; nothing was changed
    │   └── PoolTooLarge                    the pool's memory cannot be had
    ├── InvariantError                      the books do not balance, or the call would unbalance them
    │   ├── DoubleFree
    │   ├── RefCountUnderflow
    │   ├── UnknownBlock (LookupError)
    │   ├── UnknownRequest (KeyError)
    │   └── UnknownSequence (KeyError)
    ├── ModelError
    │   ├── InvalidLogits                   a model whose logits are no numbers, and for which requests
    │   ├── ModelNotFound                   no model, or no weights, where one was looked for
    │   ├── TokenizerMissing                text was given or asked for, and the model has no tokenizer
    │   └── UnsupportedModel                an architecture that cannot be served, with the reason
    ├── OffloadError
    │   ├── PageInTimeout
    │   └── CorruptPage
    ├── EngineUnreachable                   no engine answers at a socket
    ├── SnapshotError (ValueError)          a snapshot that cannot be read, or of another version
    ├── TraceFormatError (ValueError)
    ├── RecordError (ValueError)            a file that is no record of a run, or cannot be one
    └── BaselineError
        ├── IncomparableBaseline
        └── BaselineSchemaError

A message says what was asked, the numbers, and what to do. A call that raises leaves the state as it was.
"""

from collections.abc import Sequence

__all__ = [
    "AllocationError",
    "BaselineError",
    "BaselineSchemaError",
    "ConfigError",
    "CorruptPage",
    "DoubleFree",
    "DuplicateRequest",
    "DuplicateSequence",
    "EngineUnreachable",
    "IncomparableBaseline",
    "InvalidLogits",
    "InvalidRequest",
    "InvariantError",
    "KernelInputError",
    "ModelError",
    "ModelNotFound",
    "OffloadError",
    "OutOfBlocks",
    "PageInTimeout",
    "PagedKVError",
    "PoolTooLarge",
    "RecordError",
    "RefCountUnderflow",
    "RequestRefused",
    "SnapshotError",
    "TokenizerMissing",
    "TraceFormatError",
    "UnknownBlock",
    "UnknownRequest",
    "UnknownSequence",
    "UnsupportedModel",
]


class PagedKVError(Exception):
    """Root of every error that pagedkv raises on purpose."""


class ConfigError(PagedKVError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class InvalidRequest(PagedKVError, ValueError):
    """An argument that no state of the cache could serve, such as a negative count."""


class DuplicateSequence(InvalidRequest):
    """A sequence id that is already taken, or that one batch names twice."""


class DuplicateRequest(InvalidRequest):
    """A request id that is already taken by a live request."""


class RequestRefused(InvalidRequest):
    """A request that can never run, whatever else ends; nothing was changed.

    Attributes:
        needed: what it takes.
        available: what there is at most.
        unit: of both, such as "blocks" or "tokens".
    """

    def __init__(self, needed: int, available: int, unit: str, message: str) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available
        self.unit = unit

    def __reduce__(self) -> tuple[type["RequestRefused"], tuple[int, int, str, str]]:
        return type(self), (self.needed, self.available, self.unit, str(self))


class KernelInputError(InvalidRequest):
    """Tensors that a kernel cannot work on: nothing was launched, nothing was written."""


class AllocationError(PagedKVError):
    """Blocks could not be handed out."""


class OutOfBlocks(AllocationError):
    """Not enough blocks are obtainable now; the state is as it was before the call.

    Attributes:
        needed: blocks that the call had to obtain.
        free: free blocks without cached content.
        evictable: free blocks whose cached content could be given up.
    """

    def __init__(self, needed: int, free: int, evictable: int, hint: str = "") -> None:
        advice = hint or "release or preempt a sequence, or give the pool more blocks"
        super().__init__(
            f"{needed} blocks needed, {free + evictable} obtainable "
            f"({free} free, {evictable} evictable): {advice}"
        )
        self.needed = needed
        self.free = free
        self.evictable = evictable
        self.hint = hint

    def __reduce__(self) -> tuple[type["OutOfBlocks"], tuple[int, int, int, str]]:
        return type(self), (self.needed, self.free, self.evictable, self.hint)


class PoolTooLarge(AllocationError):
    """The memory of a pool cannot be had; nothing was allocated.

    Attributes:
        num_blocks: blocks that were asked for.
        num_fitting: blocks that would fit; 0 if none.
    """

    def __init__(self, num_blocks: int, num_fitting: int, message: str) -> None:
        super().__init__(message)
        self.num_blocks = num_blocks
        self.num_fitting = num_fitting

    def __reduce__(self) -> tuple[type["PoolTooLarge"], tuple[int, int, str]]:
        return type(self), (self.num_blocks, self.num_fitting, str(self))


class ModelError(PagedKVError):
    """A model cannot be served."""


class InvalidLogits(ModelError):
    """Logits without a finite maximum: nothing can be sampled.

    Attributes:
        request_ids: the requests that they are for.
    """

    def __init__(self, request_ids: Sequence[int | str], message: str) -> None:
        super().__init__(message)
        self.request_ids = tuple(request_ids)

    def __reduce__(self) -> tuple[type["InvalidLogits"], tuple[tuple[int | str, ...], str]]:
        return type(self), (self.request_ids, str(self))


class ModelNotFound(ModelError):
    """There is no model, or there are no weights, where one was looked for."""


class TokenizerMissing(ModelError):
    """Text was given or asked for, and the model has no tokenizer; token ids work."""


class UnsupportedModel(ModelError):
    """An architecture that cannot be served; the message has the reason."""


class InvariantError(PagedKVError):
    """The books do not balance, or the call would have unbalanced them."""


class DoubleFree(InvariantError):
    """A block was released that nobody holds any more."""


class RefCountUnderflow(InvariantError):
    """A call drops more references to a block than the block has."""


class UnknownBlock(InvariantError, LookupError):
    """A block id outside the pool, or a free block where one in use is needed."""


class _Unknown(InvariantError, KeyError):
    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class UnknownRequest(_Unknown):
    """A request id that is not live."""


class UnknownSequence(_Unknown):
    """A sequence id that is not live."""


class OffloadError(PagedKVError):
    """A block could not be moved between tiers."""


class PageInTimeout(OffloadError):
    """A page-in did not finish in time."""


class CorruptPage(OffloadError):
    """The bytes of a stored block are not the bytes that were stored."""


class EngineUnreachable(PagedKVError):
    """No engine answers at a socket: nobody does, or something else."""


class SnapshotError(PagedKVError, ValueError):
    """A snapshot that cannot be read: not JSON, broken off, or of another version."""


class TraceFormatError(PagedKVError, ValueError):
    """A trace file that cannot be read as any known format.

    Attributes:
        file: name of the file, as it was given.
        line: 1-based line number; 0 where the fault has no line.
        column: column name or 1-based position; empty where the fault has none.
    """

    def __init__(self, file: str, line: int, expected: str, column: str = "") -> None:
        place = file + (f":{line}" if line else "") + (f": {column}" if column else "")
        super().__init__(f"{place}: {expected}")
        self.file = file
        self.line = line
        self.column = column
        self.expected = expected

    def __reduce__(self) -> tuple[type["TraceFormatError"], tuple[str, int, str, str]]:
        return type(self), (self.file, self.line, self.expected, self.column)


class RecordError(PagedKVError, ValueError):
    """The record of a run that cannot be read, or not be written."""


class BaselineError(PagedKVError):
    """A stored baseline cannot be used."""


class IncomparableBaseline(BaselineError):
    """A stored baseline was taken under conditions that differ from these."""


class BaselineSchemaError(BaselineError):
    """A baseline file that cannot be read: not JSON, damaged, or of a newer schema."""

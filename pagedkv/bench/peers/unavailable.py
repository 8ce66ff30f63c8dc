"""Why a peer is not measured."""

from importlib import import_module
from typing import Any

from pagedkv.errors import PagedKVError

__all__ = ["PeerUnavailable", "imported", "require_cuda"]


class PeerUnavailable(PagedKVError):
    """A peer cannot solve a problem; the message says why."""


def imported(module: str) -> Any:
    """A module of another project.

    Raises:
        PeerUnavailable: it is not installed, or will not load.
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise PeerUnavailable(f"{package} is not installed") from error
        raise PeerUnavailable(f"{package} will not load: {error}") from error
    except Exception as error:  # foreign code may raise anything while it loads
        raise PeerUnavailable(f"{package} will not load: {type(error).__name__}: {error}") from error
    try:
        return import_module(module)
    except Exception as error:
        raise PeerUnavailable(f"{module} will not load: {type(error).__name__}: {error}") from error


def require_cuda(device_type: str, name: str) -> None:
    """Check that there is a GPU for a peer that needs one.

    Raises:
        PeerUnavailable: there is none.
    """
    if device_type != "cuda":
        raise PeerUnavailable(f"{name} runs on CUDA alone")

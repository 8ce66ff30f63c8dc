"""Options of commands that keep evicted blocks in tiers below the device."""

import argparse
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from pagedkv.cli.arguments import natural, positive

if TYPE_CHECKING:
    from pagedkv.config import OffloadConfig

__all__ = ["OFFLOAD", "add_options", "offload_config"]

OFFLOAD: Mapping[str, str] = {
    "pinned_bytes": "--pinned-gib",
    "nvme_bytes": "--nvme-gib",
    "prefetch_blocks": "--prefetch-blocks",
    "eviction": "--eviction",
    "queue_depth": "--queue-depth",
    "io_threads": "--io-threads",
    "io_streams": "--io-streams",
    "deferred_events": "--blocking-events",
}
"""Name of each argument, and its option."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; those that were not given are None."""
    from pagedkv.config import EvictionPolicy

    group = parser.add_argument_group(
        "tiers below the device", "blocks that are evicted are kept there if one of the first two is given"
    )
    add = group.add_argument
    add("--pinned-gib", dest="pinned_bytes", type=_gib, metavar="GIB", help="host memory for them")
    add("--nvme-gib", dest="nvme_bytes", type=_gib, metavar="GIB", help="size of a file behind it")
    add("--prefetch-blocks", type=natural, metavar="N", help="blocks brought back before their turn")
    add("--eviction", choices=get_args(EvictionPolicy), help="which of them give way (default: lru)")
    add("--io-threads", type=positive, metavar="N", help="threads that read and write the file")
    add("--io-streams", type=natural, metavar="N", help="streams that copy beside steps; 0 for in steps")
    add(
        "--blocking-events",
        dest="deferred_events",
        action="store_false",
        default=None,
        help="steps wait for pages that are on their way",
    )
    add("--queue-depth", type=positive, metavar="N", help="reads and writes of the file at once")


def offload_config(arguments: argparse.Namespace) -> "OffloadConfig | None":
    """The settings that were asked for; None if no tier was.

    Raises:
        ConfigError: they cannot work.
    """
    from pagedkv.config import OffloadConfig

    if arguments.pinned_bytes is None and arguments.nvme_bytes is None:
        return None
    given: dict[str, Any] = {
        name: value for name in OFFLOAD if (value := getattr(arguments, name)) is not None
    }
    if "eviction" in given:
        given["policy"] = given.pop("eviction")
    return OffloadConfig(**given)


def _gib(text: str) -> int:
    """GiB as bytes."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0:
        return int(value * 2**30)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB from 0")

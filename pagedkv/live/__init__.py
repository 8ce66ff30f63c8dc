"""Looking at an engine from outside while it runs. It knows nothing of engines: it is given what to say."""

from pagedkv.live.client import ask
from pagedkv.live.gate import Gate
from pagedkv.live.http import MetricsServer
from pagedkv.live.places import ENV_VAR, asked_path, live_sockets, socket_of
from pagedkv.live.protocol import SCHEMA_VERSION, SECTIONS, USUAL_SECTIONS
from pagedkv.live.server import DebugServer
from pagedkv.live.snapshots import read_snapshot
from pagedkv.live.source import Source

__all__ = [
    "ENV_VAR",
    "SCHEMA_VERSION",
    "SECTIONS",
    "USUAL_SECTIONS",
    "DebugServer",
    "Gate",
    "MetricsServer",
    "Source",
    "ask",
    "asked_path",
    "live_sockets",
    "read_snapshot",
    "socket_of",
]

"""The Python client: `with sampan.Client() as c: c.containers.run("host", ["echo", "hi"])`.

`wire`, `jsontext` and `start` are what the command line shares with it; they import next to nothing, so the rest is
imported on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.client.builds import BuildFailed, BuildOptions
    from sampan.client.containers import Container, ExecResult, ProgramFailed, RunOptions, RunResult
    from sampan.client.images import Image
    from sampan.client.networks import Network, endpoint
    from sampan.client.sdk import Client
    from sampan.client.secrets import Secret
    from sampan.client.streams import Stream
    from sampan.client.volumes import Volume

_FROM = {
    "BuildFailed": "builds",
    "BuildOptions": "builds",
    "Client": "sdk",
    "Container": "containers",
    "ExecResult": "containers",
    "Image": "images",
    "Network": "networks",
    "ProgramFailed": "containers",
    "RunOptions": "containers",
    "RunResult": "containers",
    "Secret": "secrets",
    "Stream": "streams",
    "Volume": "volumes",
    "endpoint": "networks",
}

__all__ = [
    "BuildFailed",
    "BuildOptions",
    "Client",
    "Container",
    "ExecResult",
    "Image",
    "Network",
    "ProgramFailed",
    "RunOptions",
    "RunResult",
    "Secret",
    "Stream",
    "Volume",
    "endpoint",
]


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module 'sampan.client' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"sampan.client.{_FROM[name]}"), name)

"""sampan: a container engine made of namespaces, control groups and an overlay filesystem.

`from sampan import Client` is the Python client; it loads on first use, because the command line imports this
package at every start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.client import Client as Client

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Client":
        from sampan.client import Client

        return Client
    raise AttributeError(f"module 'sampan' has no attribute {name!r}")

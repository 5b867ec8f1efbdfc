"""Network devices of the host that a container gets."""

from __future__ import annotations

from shlex import quote
from typing import ClassVar

from sampan.spec.operation import Operation


class MoveNetDevice(Operation, frozen=True, tag="move-net-device"):
    """Move a network device into the container's network namespace, with its addresses, and bring it up."""

    man: ClassVar[str] = "ip-link(8), network_namespaces(7)"
    device: str
    name: str  # there

    def say(self) -> str:
        renamed = f" as {self.name}" if self.name != self.device else ""
        return f"move the network device {self.device} into the container{renamed}"

    def shell(self) -> str:
        return f"ip link set {quote(self.device)} netns $pid name {quote(self.name)}"

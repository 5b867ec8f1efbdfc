"""The kernel steps of which a container's network is made, as data, in the words of ip(8).

They are computed by `plan.py` and performed by `perform.py`. Those that are `inside` happen in the container's network
namespace, the others in the host's. Their shell lines call the container's namespace "$netns", a name of ip-netns(8).
"""

from __future__ import annotations

from shlex import quote
from typing import ClassVar

from sampan.spec.operation import Operation


class NewNamespace(Operation, frozen=True, tag="new-network-namespace"):
    """Make a network namespace; a process enters it later."""

    man: ClassVar[str] = "network_namespaces(7)"

    def say(self) -> str:
        return "make a network namespace"

    def shell(self) -> str:
        return 'ip netns add "$netns"'


class RemoveNamespace(Operation, frozen=True, tag="remove-network-namespace"):
    """Let a network namespace go, with all links in it."""

    man: ClassVar[str] = "network_namespaces(7)"

    def say(self) -> str:
        return "let the network namespace go"

    def shell(self) -> str:
        return 'ip netns delete "$netns"'


class MakeBridge(Operation, frozen=True, tag="make-bridge", kw_only=True):
    """Make a bridge, or put right the one of that name and alias; another's bridge of that name is used as it is."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str
    mac: str = ""
    mtu: int = 0
    alias: str = ""

    def say(self) -> str:
        return f"make the bridge {self.link}"

    def shell(self) -> str:
        mtu = f" && ip link set {quote(self.link)} mtu {self.mtu}" if self.mtu else ""
        made = f"ip link add {quote(self.link)}{_settings(self.mac, 0)} type bridge{mtu}"
        return f"{made} && {_alias(self.link, self.alias)}"


class MakeVeth(Operation, frozen=True, tag="make-veth", kw_only=True):
    """Make a pair of links: what goes into `link` comes out of `interface`, which is in the container."""

    man: ClassVar[str] = "veth(4)"
    inside: ClassVar[bool] = False
    link: str
    interface: str
    mac: str = ""
    mtu: int = 0

    def say(self) -> str:
        return f"make a pair of links, {self.link} and the container's {self.interface}"

    def shell(self) -> str:
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        peer = f"{quote(self.interface)}{_settings(self.mac, self.mtu)} {_THERE}"
        return f"ip link add {quote(self.link)}{mtu} type veth peer name {peer}"


class MakeMacvlan(Operation, frozen=True, tag="make-macvlan", kw_only=True):
    """Make `interface` in the container a link with a MAC of its own on the host's link `parent`."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    interface: str
    parent: str
    mode: str = "bridge"
    mac: str = ""
    mtu: int = 0

    def say(self) -> str:
        return f"make the container's {self.interface} a macvlan of {self.parent}"

    def shell(self) -> str:
        made = f"ip link add link {quote(self.parent)} name {quote(self.interface)}{_settings(self.mac, self.mtu)}"
        return f"{made} {_THERE} type macvlan mode {self.mode}"


class MakeIpvlan(Operation, frozen=True, tag="make-ipvlan", kw_only=True):
    """Make `interface` in the container a link that shares the MAC of the host's link `parent`."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    interface: str
    parent: str
    mode: str = "l2"
    flag: str = "bridge"
    mtu: int = 0

    def say(self) -> str:
        return f"make the container's {self.interface} an ipvlan of {self.parent}"

    def shell(self) -> str:
        made = f"ip link add link {quote(self.parent)} name {quote(self.interface)}{_settings('', self.mtu)}"
        return f"{made} {_THERE} type ipvlan mode {self.mode} {self.flag}"


class MakeVlan(Operation, frozen=True, tag="make-vlan", kw_only=True):
    """Make a link that is one VLAN of `parent`; one of that name is used as it is."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str
    parent: str
    number: int
    alias: str = ""

    def say(self) -> str:
        return f"make {self.link}, the VLAN {self.number} of {self.parent}"

    def shell(self) -> str:
        made = f"ip link add link {quote(self.parent)} name {quote(self.link)} type vlan id {self.number}"
        return f"{made} && {_alias(self.link, self.alias)}"


class MakeDummy(Operation, frozen=True, tag="make-dummy", kw_only=True):
    """Make a link that leads nowhere, for others to be made on; one of that name is used as it is."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str
    alias: str = ""

    def say(self) -> str:
        return f"make {self.link}, which leads nowhere"

    def shell(self) -> str:
        return f"ip link add {quote(self.link)} type dummy && {_alias(self.link, self.alias)}"


class JoinBridge(Operation, frozen=True, tag="join-bridge"):
    """Make a link a port of a bridge; an `isolated` one reaches the bridge, and no other isolated port.

    It gets back what came from it: a container's connection to a port that it publishes itself, which the host leads
    back while it is bridged where net.bridge.bridge-nf-call-iptables is 1.
    """

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str
    bridge: str
    isolated: bool = False

    def say(self) -> str:
        apart = ", apart from its other ports" if self.isolated else ""
        return f"connect {self.link} to the bridge {self.bridge}{apart}"

    def shell(self) -> str:
        joined = f"ip link set {quote(self.link)} master {quote(self.bridge)}"
        apart = " isolated on" if self.isolated else ""
        return f"{joined} && ip link set {quote(self.link)} type bridge_slave hairpin on{apart}"


class Describe(Operation, frozen=True, tag="describe"):
    """Say on a link whose it is."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str
    alias: str

    def say(self) -> str:
        return f"say on {self.link} whose it is"

    def shell(self) -> str:
        return _alias(self.link, self.alias)


class RemoveLink(Operation, frozen=True, tag="remove-link"):
    """Remove a link, with its addresses and routes, where it is there, and its alias ends so.

    What is removed from inside a container is a link that was put there, whatever the container calls it now.
    """

    man: ClassVar[str] = "ip-link(8)"
    link: str
    alias: str = ""
    inside: bool = False

    def say(self) -> str:
        return f"remove {self.link}"

    def shell(self) -> str:
        return _ip(self.inside, f"link delete {quote(self.link)}")


class SetAddressing(Operation, frozen=True, tag="set-addressing"):
    """Say whether a link that comes up gives itself an IPv6 address of its own making, fe80::."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str

    def say(self) -> str:
        return f"give {self.link} no IPv6 address of its own"

    def shell(self) -> str:
        return f"ip link set {quote(self.link)} addrgenmode none"


class SetParameter(Operation, frozen=True, tag="set-network-parameter"):
    """Set a kernel parameter of the network, "net/ipv4/conf/eth0/log_martians": a file's path below /proc/sys."""

    man: ClassVar[str] = "proc_sys_net(5)"
    name: str
    value: str
    inside: bool = False

    @property
    def path(self) -> str:
        """The file."""
        return f"/proc/sys/{self.name}"

    @property
    def interface(self) -> str:
        """The interface that it is about; "" for the whole namespace."""
        parts = self.name.split("/")
        return parts[3] if parts[2:3] in (["conf"], ["neigh"]) and len(parts) == 5 else ""

    def say(self) -> str:
        return f"set {self.name} to {self.value}"

    def shell(self) -> str:
        line = f"echo {quote(self.value)} > {quote(self.path)}"
        return f'nsenter --net="/run/netns/$netns" sh -c {quote(line)}' if self.inside else line


class AddAddress(Operation, frozen=True, tag="add-address"):
    """Give an interface an address with its prefix."""

    man: ClassVar[str] = "ip-address(8)"
    interface: str
    address: str
    inside: bool = False

    def say(self) -> str:
        return f"give {self.interface} the address {self.address}"

    def shell(self) -> str:
        how = "nodad" if ":" in self.address else "broadcast +"
        return _ip(self.inside, f"address replace {self.address} {how} dev {quote(self.interface)}")


class BringUp(Operation, frozen=True, tag="bring-up"):
    """Let an interface send and receive."""

    man: ClassVar[str] = "ip-link(8)"
    interface: str
    inside: bool = False

    def say(self) -> str:
        return f"bring {self.interface} up"

    def shell(self) -> str:
        return _ip(self.inside, f"link set {quote(self.interface)} up")


class TakeDown(Operation, frozen=True, tag="take-down"):
    """Let a link neither send nor receive, where it is there."""

    man: ClassVar[str] = "ip-link(8)"
    inside: ClassVar[bool] = False
    link: str

    def say(self) -> str:
        return f"take {self.link} down"

    def shell(self) -> str:
        return f"ip link set {quote(self.link)} down"


class AddRoute(Operation, frozen=True, tag="add-route", kw_only=True):
    """Send what goes to `destination` ("0.0.0.0/0", "::/0": all) by `gateway`, or with "" straight through."""

    man: ClassVar[str] = "ip-route(8)"
    destination: str
    interface: str
    gateway: str = ""
    inside: bool = False

    def say(self) -> str:
        what = "all else" if self.destination.endswith("/0") else f"what goes to {self.destination}"
        return f"send {what} by {self.gateway or self.interface}"

    def shell(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        return _ip(self.inside, f"route replace {self.destination}{via} dev {quote(self.interface)}")


class SetNeighbour(Operation, frozen=True, tag="set-neighbour", kw_only=True):
    """Tell the host which MAC an address has, in place of that of an earlier container."""

    man: ClassVar[str] = "ip-neighbour(8)"
    inside: ClassVar[bool] = False
    link: str
    address: str
    mac: str

    def say(self) -> str:
        return f"note that {self.address} is at {self.mac}"

    def shell(self) -> str:
        return f"ip neighbour replace {self.address} lladdr {self.mac} dev {quote(self.link)} nud stale"


Setting = JoinBridge | Describe | SetAddressing | AddAddress | BringUp | AddRoute | SetNeighbour
"""What changes something that is there; several go to the kernel together."""

Step = (
    MakeBridge | MakeVlan | MakeDummy | MakeVeth | MakeMacvlan | MakeIpvlan
    | TakeDown | RemoveLink | SetParameter | Setting
)  # fmt: skip
"""Every step."""


_THERE = 'netns "$netns"'


def _ip(inside: bool, words: str) -> str:
    return f'ip -n "$netns" {words}' if inside else f"ip {words}"


def _settings(mac: str, mtu: int) -> str:
    return (f" address {mac}" if mac else "") + (f" mtu {mtu}" if mtu else "")


def _alias(link: str, alias: str) -> str:
    return f"ip link set {quote(link)} alias {quote(alias)}"

"""What the engine keeps and hands on of networks: all decided, nothing left to be looked up. Pure.

Addresses are text as ipaddress(3) writes it. An endpoint's `addresses` carry the network's prefix, "172.17.0.2/16".
"""

from __future__ import annotations

from typing import Literal

import msgspec

DEFAULT = "bridge"
"""The name of the network that a container is on whose user named none."""

Driver = Literal["bridge", "macvlan", "ipvlan", "host", "null"]
Protocol = Literal["tcp", "udp", "sctp"]


class Subnet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pool of addresses, IPv4 or IPv6."""

    subnet: str  # "172.17.0.0/16"
    gateway: str = ""  # "172.17.0.1": the bridge's own address; "" where there is none
    ip_range: str = ""  # the part of it that addresses are given from; "": all
    auxiliary: dict[str, str] = {}  # addresses never given, by their users' names
    given: bool = False  # by the user: only of such does a container get the address that it asks for

    @property
    def version(self) -> Literal[4, 6]:
        """The version of IP."""
        return 6 if ":" in self.subnet else 4

    @property
    def gateway_interface(self) -> str:
        """The gateway with the subnet's prefix: "172.17.0.1/16"; "" where there is none."""
        return f"{self.gateway}/{self.subnet.partition('/')[2]}" if self.gateway else ""


class Network(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network. `link` and `mtu` are what its options and the driver's defaults come to."""

    id: str
    name: str
    created_ns: int
    driver: Driver = "bridge"
    subnets: tuple[Subnet, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False  # nothing on it reaches, or is reached from, beyond it
    attachable: bool = False
    options: dict[str, str] = {}  # as the user gave them
    labels: dict[str, str] = {}
    ipam_options: dict[str, str] = {}
    link: str = ""  # the bridge's name; "" for other drivers
    mtu: int = 0  # 0: the kernel's default
    parent: str = ""  # of macvlan and ipvlan: the host's link
    mode: str = ""  # of macvlan and ipvlan: "bridge", "private", "vepa", "passthru"; "l2", "l3", "l3s"
    inter_container: bool = True  # containers on it reach each other
    masquerade: bool = True  # what leaves it has the host's address
    host_address: str = ""  # what ports are published on whose user named no host address; "": every address

    @property
    def predefined(self) -> bool:
        """Whether it is one that every instance has."""
        return self.name in PREDEFINED

    @property
    def default(self) -> bool:
        """Whether it is the default bridge, on which containers have no names."""
        return self.name == DEFAULT


PREDEFINED = (DEFAULT, "host", "none")
"""The networks that every instance has, and nobody can make or remove."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A running container's place on one network."""

    id: str
    network: str  # the network's id
    container: str  # the container's id
    interface: str  # in the container: "eth0"
    link: str = ""  # the other end of the veth, on the host; "" for other drivers
    mac: str = ""  # "02:42:ac:11:00:02"
    addresses: tuple[str, ...] = ()  # one of each version of IP at most, IPv4 first
    link_local: tuple[str, ...] = ()  # more addresses, without prefixes, that the user gave
    gateways: tuple[str, ...] = ()  # of each version, for whichever endpoint has the default route
    aliases: tuple[str, ...] = ()  # names by which the network's other containers find it, as the user gave them
    names: tuple[str, ...] = ()  # all of those: the container's name, its aliases, its short id, its host name
    links: dict[str, str] = {}  # its own names for others: alias → container id
    gateway_priority: int = 0
    driver_opts: dict[str, str] = {}

    @property
    def ipv4(self) -> str:
        """Its IPv4 address without prefix, or ""."""
        return next((a.partition("/")[0] for a in self.addresses if ":" not in a), "")

    @property
    def ipv6(self) -> str:
        """Its IPv6 address without prefix, or ""."""
        return next((a.partition("/")[0] for a in self.addresses if ":" in a), "")


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port of the host that leads to a container's. All numbers are final."""

    protocol: Protocol = "tcp"
    host_address: str  # "0.0.0.0" and "::" are every address of that version
    host_port: int
    container_port: int

"""Bodies about networks and published ports."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.spec.docker.body import Body, Given, Int, always, named


class PortBinding(Given, frozen=True, kw_only=True):
    """Where on the host a container's port is published."""

    host_ip: str = always("", "HostIp")
    host_port: str = always("")


class Port(Body, frozen=True, kw_only=True):
    """A port in a list of containers."""

    ip: str = ""
    private_port: int = always(0)
    public_port: int = 0
    type: str = always("tcp")


class PublishedRange(Given, frozen=True, kw_only=True):
    """Ports of the host by their numbers: "8080" or "8000-8010". `host_ip` "": on any address."""

    host_ip: str = always("", "HostIp")
    host_port: str = always("")
    type: str = always("tcp")


class PortsUpdate(Given, frozen=True, kw_only=True):
    """The body of `POST /sampan/containers/{id}/ports`: what is published no longer, and what is from now on."""

    add: dict[str, tuple[PortBinding, ...] | None] = always({})
    remove: tuple[PublishedRange, ...] = ()


class PortsUpdateResponse(Body, frozen=True, kw_only=True):
    """What is published then, as `NetworkSettings.Ports` has it; nothing while the container does not run."""

    ports: dict[str, tuple[PortBinding, ...] | None] = always({})


class EndpointIpamConfig(Given, frozen=True, kw_only=True):
    """Addresses asked for."""

    ipv4_address: str = named("IPv4Address", "")
    ipv6_address: str = named("IPv6Address", "")
    link_local_ips: tuple[str, ...] | None = named("LinkLocalIPs", None)


class EndpointSettings(Given, frozen=True, kw_only=True):
    """A container's place in one network."""

    ipam_config: EndpointIpamConfig | None = always(None, "IPAMConfig")
    links: tuple[str, ...] | None = always(None)
    aliases: tuple[str, ...] | None = always(None)
    mac_address: str = always("")
    driver_opts: dict[str, str] | None = always(None)
    gw_priority: Int = always(0)
    network_id: str = always("")
    endpoint_id: str = always("")
    gateway: str = always("")
    ip_address: str = always("")
    ip_prefix_len: Int = always(0)
    ipv6_gateway: str = always("")
    global_ipv6_address: str = always("")
    global_ipv6_prefix_len: Int = always(0)
    dns_names: tuple[str, ...] | None = always(None, "DNSNames")


class NetworkingConfig(Given, frozen=True, kw_only=True):
    """The networks that a new container is attached to."""

    endpoints_config: dict[str, EndpointSettings] | None = always(None)


class Address(Body, frozen=True, kw_only=True):
    """An address and its prefix."""

    addr: str = always("")
    prefix_len: int = always(0)


class NetworkSettings(Body, frozen=True, kw_only=True):
    """A container's networks, as inspect shows them."""

    bridge: str = always("")
    sandbox_id: str = always("")
    sandbox_key: str = always("")
    ports: dict[str, tuple[PortBinding, ...] | None] = always({})
    hairpin_mode: bool = always(value=False)
    link_local_ipv6_address: str = always("")
    link_local_ipv6_prefix_len: int = always(0)
    secondary_ip_addresses: tuple[Address, ...] | None = always(None)
    secondary_ipv6_addresses: tuple[Address, ...] | None = always(None)
    endpoint_id: str = always("")
    gateway: str = always("")
    global_ipv6_address: str = always("")
    global_ipv6_prefix_len: int = always(0)
    ip_address: str = always("")
    ip_prefix_len: int = always(0)
    ipv6_gateway: str = always("")
    mac_address: str = always("")
    networks: dict[str, EndpointSettings] = always({})


class IpamConfig(Given, frozen=True, kw_only=True):
    """One pool of addresses."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class Ipam(Given, frozen=True, kw_only=True):
    """How a network gives addresses."""

    driver: str = always("default")
    options: dict[str, str] | None = always(None)
    config: tuple[IpamConfig, ...] | None = always(None)


class ConfigReference(Given, frozen=True, kw_only=True):
    """The network whose configuration is taken."""

    network: str = always("")


class NetworkContainer(Body, frozen=True, kw_only=True):
    """A container in a network."""

    name: str = always("")
    endpoint_id: str = always("")
    mac_address: str = always("")
    ipv4_address: str = always("")
    ipv6_address: str = always("")


class Network(Body, frozen=True, kw_only=True):
    """One network."""

    name: str = always("")
    id: str = always("", "Id")
    created: str = always("")
    scope: str = always("local")
    driver: str = always("")
    enable_ipv4: bool = always(value=True)
    enable_ipv6: bool = always(value=False)
    ipam: Ipam = always(Ipam())
    internal: bool = always(value=False)
    attachable: bool = always(value=False)
    ingress: bool = always(value=False)
    config_from: ConfigReference = always(ConfigReference())
    config_only: bool = always(value=False)
    containers: dict[str, NetworkContainer] = always({})
    options: dict[str, str] = always({})
    labels: dict[str, str] = always({})


class NetworkCreate(Given, frozen=True, kw_only=True):
    """The body of `POST /networks/create`."""

    name: str = ""
    check_duplicate: bool = False  # until 1.43; names are unique in any case
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: Ipam | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreateResponse(Body, frozen=True, kw_only=True):
    """The new network's id."""

    id: str = always("", "Id")
    warning: str = always("")


class NetworkConnect(Given, frozen=True, kw_only=True):
    """The body of `POST /networks/{id}/connect`."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(Given, frozen=True, kw_only=True):
    """The body of `POST /networks/{id}/disconnect`."""

    container: str = ""
    force: bool = False


class VolumeUsage(Body, frozen=True, kw_only=True):
    """How large a volume is, and how many containers use it; -1: not computed."""

    size: int = always(-1)
    ref_count: int = always(-1)


class Volume(Body, frozen=True, kw_only=True):
    """One volume."""

    created_at: str = ""
    driver: str = always("local")
    labels: dict[str, str] | None = always(None)
    mountpoint: str = always("")
    name: str = always("")
    options: dict[str, str] | None = always(None)
    scope: str = always("local")
    status: dict[str, Any] | None = None
    usage_data: VolumeUsage | None = None


class VolumeCreate(Given, frozen=True, kw_only=True):
    """The body of `POST /volumes/create`."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: msgspec.Raw | None = None


class VolumeListResponse(Body, frozen=True, kw_only=True):
    """All volumes."""

    volumes: tuple[Volume, ...] = always(())
    warnings: tuple[str, ...] | None = always(None)

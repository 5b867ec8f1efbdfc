"""Networks, by the Python client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.client.removable import Removable
from sampan.client.wire import query, quote
from sampan.spec import docker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sampan.client.containers import Container
    from sampan.client.sdk import Api


class Network(Removable):
    """One network. In a `with` it is removed at the end; its containers have to be gone by then.

    with client.networks.create("back") as back:
        with client.containers.run("redis", detach=True, name="db", network=back.name):
            client.containers.run("redis", ["redis-cli", "-h", "db", "ping"], network=back.name)
    """

    def __init__(self, api: Api, attributes: docker.Network, warning: str = "") -> None:
        self._api = api
        self._path = f"/networks/{attributes.id}"
        self.attributes = attributes
        """What `inspect` told when it was last asked; `reload` asks again."""
        self.warning = warning
        """What the engine had to say about its options when it was made."""

    def __repr__(self) -> str:
        return f"<Network {self.name}>"

    @property
    def id(self) -> str:
        """Its id, 64 digits."""
        return self.attributes.id

    @property
    def short_id(self) -> str:
        """Its id's first twelve digits."""
        return self.id[:12]

    @property
    def name(self) -> str:
        """Its name."""
        return self.attributes.name

    @property
    def containers(self) -> Mapping[str, docker.NetworkContainer]:
        """The running containers that are on it now, by their ids."""
        return self.reload().containers

    def reload(self) -> docker.Network:
        """Ask the engine for everything about it."""
        self.attributes = self._api.get(docker.Network, self._path)
        return self.attributes

    inspect = reload

    def connect(self, container: Container | str, settings: docker.EndpointSettings | None = None) -> None:
        """Put a container, or one of this name or id, on it: at once if it runs. See `endpoint`."""
        body = docker.NetworkConnect(container=_ref(container), endpoint_config=settings)
        self._api.post(f"{self._path}/connect", body)

    def disconnect(self, container: Container | str, *, force: bool = False) -> None:
        """Take a container off it."""
        self._api.post(f"{self._path}/disconnect", docker.NetworkDisconnect(container=_ref(container), force=force))

    def remove(self) -> None:
        """Remove it. Raises NotPermitted while a running container is on it."""
        self._api.post(self._path, method="DELETE")


class Networks:
    """The networks of an instance: `client.networks`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[str | docker.IpamConfig] = (),
        ipv6: bool | None = None,
        internal: bool = False,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        **more: object,
    ) -> Network:
        """Make a network; a subnet is text, or what says its gateway and range too. Without one it is chosen.

        `more` are other fields of `spec.docker.NetworkCreate`.
        """
        body = docker.NetworkCreate(
            name=name,
            driver=driver,
            ipam=docker.Ipam(config=tuple(_pool(subnet) for subnet in subnets)) if subnets else None,
            enable_ipv6=ipv6,
            internal=internal,
            options=dict(options or {}) or None,
            labels=dict(labels or {}) or None,
            **more,  # type: ignore[arg-type]
        )
        made = docker.decode_answer(docker.NetworkCreateResponse, self._api.post("/networks/create", body))
        return Network(self._api, self.get(made.id).attributes, made.warning)

    def get(self, ref: str) -> Network:
        """Return a network by name, id, or an id's beginning. Raises NotFound."""
        return Network(self._api, self._api.get(docker.Network, f"/networks/{quote(ref)}"))

    def list(self, *, filters: Mapping[str, str | Iterable[str]] | None = None) -> Sequence[docker.Network]:
        """Return all networks, without their containers."""
        from sampan.client.sdk import filter_lists

        return self._api.get_list(docker.Network, f"/networks{query(filters=filter_lists(filters))}")

    def prune(self, *, filters: Mapping[str, str | Iterable[str]] | None = None) -> docker.NetworkPruneResponse:
        """Remove the networks that no container is on."""
        from sampan.client.sdk import filter_lists

        return self._api.ask(docker.NetworkPruneResponse, f"/networks/prune{query(filters=filter_lists(filters))}")


def endpoint(
    *,
    aliases: Sequence[str] = (),
    ipv4_address: str = "",
    ipv6_address: str = "",
    mac_address: str = "",
    links: Sequence[str] = (),
    gateway_priority: int = 0,
) -> docker.EndpointSettings:
    """Return what a container asks of a network, for `connect` and the option `networks` of `run`."""
    ipam = docker.EndpointIpamConfig(ipv4_address=ipv4_address, ipv6_address=ipv6_address)
    return docker.EndpointSettings(
        ipam_config=ipam if ipv4_address or ipv6_address else None,
        aliases=tuple(aliases) or None,
        links=tuple(links) or None,
        mac_address=mac_address,
        gw_priority=gateway_priority,
    )


def _pool(subnet: str | docker.IpamConfig) -> docker.IpamConfig:
    return docker.IpamConfig(subnet=subnet) if isinstance(subnet, str) else subnet


def _ref(container: Container | str) -> str:
    return container if isinstance(container, str) else container.id

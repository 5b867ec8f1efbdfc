"""What has no meaning beside another container's network, or the host's."""

from __future__ import annotations

import pytest

from sampan.engine import network_modes
from sampan.errors import InvalidInput
from sampan.spec import docker


@pytest.mark.parametrize(
    ("of_host", "of_body", "text"),
    [
        ({"links": ("web",)}, {}, "container type network can't be used with links"),
        ({"dns": ("10.0.0.1",)}, {}, "dns and the network mode"),
        ({"extra_hosts": ("a:10.0.0.1",)}, {}, "custom host-to-IP mapping and the network mode"),
        ({"publish_all_ports": True}, {}, "port publishing and the container type network mode"),
        (
            {"port_bindings": {"80/tcp": ()}},
            {"exposed_ports": {"80/tcp": {}}},
            "port publishing and the container type",
        ),
        ({}, {"exposed_ports": {"80/tcp": {}}}, "port exposing and the container type network mode"),
        ({}, {"mac_address": "02:42:0a:00:00:01"}, "mac-address and the network mode"),
    ],
)
def test_a_container_on_anothers_network_has_nothing_of_its_own_there(of_host, of_body, text) -> None:
    body = docker.ContainerCreate(host_config=docker.HostConfig(network_mode="container:web", **of_host), **of_body)

    with pytest.raises(InvalidInput, match=f"conflicting options: {text}"):
        network_modes.check(body)


def test_a_container_on_the_hosts_network_has_no_links() -> None:
    body = docker.ContainerCreate(host_config=docker.HostConfig(network_mode="host", links=("web",)))

    with pytest.raises(InvalidInput, match="host type networking can't be used with links"):
        network_modes.check(body)


@pytest.mark.parametrize("mode", ["", "default", "bridge", "none", "host", "back"])
def test_any_other_may_have_servers_of_names_hosts_and_ports(mode: str) -> None:
    host_config = docker.HostConfig(
        network_mode=mode, dns=("10.0.0.1",), extra_hosts=("a:10.0.0.1",), publish_all_ports=True
    )

    network_modes.check(docker.ContainerCreate(host_config=host_config, exposed_ports={"80/tcp": {}}))

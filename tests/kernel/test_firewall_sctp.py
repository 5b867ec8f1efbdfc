"""Published ports of SCTP, with real traffic where the kernel has it: in the small VM."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sampan.network.namespace import Namespace
from support.hosts import NOTHING_COMES_S, TIMEOUT_S, firewall, on_a_host_of_its_own, publish, small_scene


def sctp(namespace: Namespace | None, family: socket.AddressFamily) -> socket.socket:
    def make() -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)

    try:
        made = namespace.call(make) if namespace else make()
    except OSError as e:
        pytest.skip(f"missing kernel feature: SCTP: {e}")
    made.settimeout(TIMEOUT_S)
    return made


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@on_a_host_of_its_own
def test_a_published_sctp_port_is_reached_from_another_host(family: socket.AddressFamily, tmp_path: Path) -> None:
    version = int(family == socket.AF_INET6)
    with small_scene(str(tmp_path / "record")) as scene, sctp(scene.web.namespace, family) as server:
        server.bind((("0.0.0.0", "::")[version], 80))
        server.listen()
        with firewall(scene.record, scene.net) as ours:
            ours.publish(scene.web.addresses, publish(8080, 80, "sctp"))

            with sctp(scene.near.namespace, family) as client:
                client.connect((scene.near.ours[version], 8080))
                client.send(b"question")
                accepted, peer = server.accept()
                with accepted:
                    assert (accepted.recv(100), peer[0]) == (b"question", scene.near.addresses[version])

            ours.unpublish(scene.web.addresses, publish(8080, 80, "sctp"))
            with sctp(scene.near.namespace, family) as client:
                client.settimeout(NOTHING_COMES_S)
                with pytest.raises(OSError):
                    client.connect((scene.near.ours[version], 8080))

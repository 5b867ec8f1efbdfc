"""The real docker-compose at sampan's socket: a project of two networks, its servers found by name and by port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.sampan import Result, Sampan, wait_until

if not shutil.which("docker-compose"):
    pytest.skip("docker-compose is not installed", allow_module_level=True)

PROJECT = """
version: "3.8"
services:
  cache:
    image: debian:bookworm
    command: redis-server --protected-mode no
    networks: {back: {aliases: [store]}}
  web:
    image: debian:bookworm
    depends_on: [cache]
    environment:
      CONF: "daemon off; error_log /dev/stderr; events {} http { server { listen 80; root /srv; } }"
    command: sh -c 'mkdir -p /srv && echo from nginx >/srv/index.html && echo "$$CONF" >/conf && exec nginx -c /conf'
    ports: ["18088:80"]
    extra_hosts: ["somewhere:10.9.9.9"]
    networks: {front: {ipv4_address: 10.88.1.10}, back: {}}
  probe:
    image: debian:bookworm
    command: sleep 600
    networks: [back]
networks:
  front: {ipam: {config: [{subnet: 10.88.1.0/24}]}}
  back: {internal: true, labels: {tier: back}, driver_opts: {com.docker.network.driver.mtu: "1400"}}
"""
# Of later versions compose 1.29 misses a field of images that Docker gave up in 1.45.
ENVIRONMENT = {"COMPOSE_API_VERSION": "1.44", "COMPOSE_PROJECT_NAME": "shop"}

Compose = Callable[..., Result]


@pytest.fixture
def compose(debian: Sampan, tmp_path: Path) -> Iterator[Compose]:
    debian("ps")  # starts the server
    (tmp_path / "docker-compose.yml").write_text(PROJECT)
    environment = {**os.environ, **ENVIRONMENT, "DOCKER_HOST": f"unix://{debian.socket}", "HOME": str(tmp_path)}

    def compose(*words: str) -> Result:
        argv = ["docker-compose", *words]
        done = subprocess.run(
            argv, check=False, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return Result(tuple(argv), 0, done.stdout, done.stderr)

    yield compose
    compose("down", "-t", "0", "-v")
    assert debian("ps", "-aq").lines == []
    assert debian("network", "ls", "-q", "-f", "type=custom").lines == []


def page() -> str:
    try:
        with urllib.request.urlopen("http://127.0.0.1:18088/", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def test_a_project_of_two_networks_comes_up_talks_changes_and_goes(compose: Compose, debian: Sampan) -> None:
    compose("up", "-d")

    wait_until(lambda: page() == "from nginx\n")
    for name in ("cache", "store"):
        wait_until(lambda name=name: compose("exec", "-T", "probe", "redis-cli", "-h", name, "ping").line == "PONG")
    assert compose("exec", "-T", "web", "getent", "hosts", "somewhere").out.split() == ["10.9.9.9", "somewhere"]
    assert "10.88.1.10" in compose("exec", "-T", "web", "ip", "-4", "-o", "addr").out
    assert compose("port", "web", "80").line == "0.0.0.0:18088"
    (back,) = json.loads(debian("network", "inspect", "shop_back").out)
    assert back["Internal"]
    assert back["Labels"]["tier"] == "back"
    assert sorted(c["Name"] for c in back["Containers"].values()) == ["shop_cache_1", "shop_probe_1", "shop_web_1"]

    compose("up", "-d", "--scale", "probe=3")
    assert len(set(compose("exec", "-T", "web", "getent", "ahostsv4", "probe").out.split()) - {"STREAM"}) >= 3

    compose("restart", "-t", "0", "web")
    wait_until(lambda: page() == "from nginx\n")
    compose("up", "-d", "--force-recreate", "-t", "0", "web")
    wait_until(lambda: page() == "from nginx\n")

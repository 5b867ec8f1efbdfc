"""Real servers on a network: nginx, redis and PostgreSQL talk by name, and are reached by published ports."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from support.hosts import neighbours
from support.sampan import Sampan, wait_until

IMAGE = "debian:bookworm"

# Counts its visits in redis and asks PostgreSQL for the time, both by name.
APPLICATION = """
import http.server, socket, subprocess

def visits():
    with socket.create_connection(("cache", 6379)) as sock:
        sock.sendall(b"INCR visits\\r\\n")
        return sock.recv(100).decode().strip()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        psql = ["psql", "-h", "db", "-U", "postgres", "-Atc", "select 6 * 7"]
        said = subprocess.run(psql, capture_output=True, text=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{visits()} {said.stdout}{said.stderr}".encode())

http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""
PROXY = """
daemon off; error_log /dev/stderr; events {} http { server {
  listen 80; listen [::]:80;
  location / { proxy_pass http://app:8000; }
  location /debian/ { root /srv; }
} }
"""
NGINX = "exec nginx -c /conf"
PACKAGES = """Package: from-here
Version: 1
Architecture: all
Maintainer: nobody
Filename: ./from-here.deb
Size: 0
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
Description: nothing
"""
POSTGRES = (
    "exec setpriv --reuid postgres --regid postgres --init-groups sh -c '"
    "B=$(echo /usr/lib/postgresql/*/bin); $B/initdb -A trust -D /tmp/pg >/dev/null && "
    "echo host all all all trust >> /tmp/pg/pg_hba.conf && "
    'exec $B/postgres -D /tmp/pg -c listen_addresses="*" -c unix_socket_directories=/tmp\''
)


APT = (
    "echo 'deb [trusted=yes] http://web/debian ./' >/etc/apt/sources.list && rm -rf /etc/apt/sources.list.d/* && "
    "apt-get update && apt-cache show from-here"
)


@pytest.fixture(scope="module")
def shop(debian: Sampan) -> Iterator[Sampan]:
    debian("network", "create", "--ipv6", "shop")
    start = ("run", "-d", "--network", "shop")
    debian(*start, "--name", "cache", IMAGE, "redis-server", "--protected-mode", "no")
    debian(*start, "--name", "store", "--network-alias", "db", "--shm-size", "128m", IMAGE, "sh", "-c", POSTGRES)
    debian(*start, "--name", "app", IMAGE, "python3", "-c", APPLICATION)
    serve = f'mkdir -p /srv/debian && echo "$PACKAGES" >/srv/debian/Packages && echo "$PROXY" >/conf && {NGINX}'
    values = ("-e", f"PROXY={PROXY}", "-e", f"PACKAGES={PACKAGES}")
    debian(*start, "--name", "web", *values, "-p", "8080:80", IMAGE, "sh", "-c", serve)
    try:
        wait_until(lambda: fetched("http://127.0.0.1:8080/").endswith("42"), timeout=90)
        yield debian
    finally:
        debian.remove_everything()
        debian("network", "rm", "shop")
    assert not debian.leftovers()


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode().strip())
    except OSError:
        return ""


def test_they_talk_by_name_and_are_reached_over_both_versions_of_ip(shop: Sampan) -> None:
    with neighbours(1) as (other,):
        urls = [f"http://{host}:8080/" for host in (other.ours[0], f"[{other.ours[1]}]")]
        said = [fetched("http://127.0.0.1:8080/"), fetched("http://[::1]:8080/")]
        said += [other.namespace.call(lambda url=url: fetched(url)) for url in urls]

    counts = [int(line.split()[0].lstrip(":")) for line in said]
    assert [line.split()[1] for line in said] == ["42"] * 4
    assert counts == list(range(counts[0], counts[0] + 4))


def test_apt_gets_its_lists_over_the_network(shop: Sampan) -> None:
    said = shop("run", "--rm", "--network", "shop", IMAGE, "sh", "-c", APT)

    assert "Package: from-here" in said.lines


def test_a_restarted_server_is_found_again_under_its_name(shop: Sampan) -> None:
    shop("restart", "-t", "2", "cache")

    wait_until(lambda: fetched("http://127.0.0.1:8080/").endswith("42"), timeout=30)

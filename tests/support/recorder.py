"""An API server that does nothing: it writes down what a client asks and answers with fixed data.

Docker's own client and ours are run against it with the same words: what they ask and what they print is compared.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

CONTAINER_ID = "4f66ad9a0b2e" + "0" * 52
IMAGE_ID = "sha256:" + "85b8f7ae53f1" + "0" * 52
DAY = 86400

CONTAINERS = [
    {
        "Id": CONTAINER_ID,
        "Names": ["/web"],
        "Image": "debian:bookworm",
        "ImageID": IMAGE_ID,
        "Command": "sh -c 'while true; do echo \"hi\"; sleep 1; done'",
        "Created": -3 * DAY,
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
        ],
        "SizeRw": 12345,
        "SizeRootFs": 164_000_000,
        "Labels": {"b": "2", "a": "1"},
        "State": "running",
        "Status": "Up 3 days",
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {"none": {}}},
        "Mounts": [
            {"Type": "bind", "Source": "/srv/a/long/directory", "Destination": "/data", "Mode": "", "RW": True},
            {"Type": "volume", "Name": "vol", "Source": "/x", "Destination": "/y", "Driver": "local", "RW": True},
        ],
    },
    {
        "Id": "9" * 64,
        "Names": ["/other", "/web/alias"],
        "Image": IMAGE_ID,
        "ImageID": IMAGE_ID,
        "Command": "true",
        "Created": -7300,
        "Ports": [
            *(
                {"IP": address, "PrivatePort": port, "PublicPort": port, "Type": kind}
                for kind in ("tcp", "udp")
                for address in ("0.0.0.0", "::")
                for port in (9000, 9001, 9002, 9004)
            ),
            *({"IP": "127.0.0.1", "PrivatePort": port, "PublicPort": port + 100, "Type": "tcp"} for port in (80, 81)),
            {"IP": "::1", "PrivatePort": 9003, "PublicPort": 9003, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 32768, "Type": "sctp"},
            *({"PrivatePort": port, "Type": kind} for port in (7002, 7000, 7001, 9000, 1) for kind in ("udp", "tcp")),
        ],
        "Labels": {},
        "State": "exited",
        "Status": "Exited (0) 2 hours ago",
        "HostConfig": {"NetworkMode": "host"},
        "NetworkSettings": {"Networks": {"host": {}}},
        "Mounts": [],
    },
]

IMAGES = [
    {
        "Id": IMAGE_ID,
        "ParentId": "",
        "RepoTags": ["debian:bookworm", "debian:12"],
        "RepoDigests": ["debian@sha256:" + "a" * 64],
        "Created": -40 * DAY,
        "Size": 164_123_456,
        "SharedSize": -1,
        "Labels": {"a": "b"},
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "7" * 64,
        "ParentId": "",
        "RepoTags": [],
        "RepoDigests": [],
        "Created": -100 * DAY,
        "Size": 999,
        "SharedSize": -1,
        "Labels": None,
        "Containers": -1,
    },
]

HISTORY = [
    {"Id": IMAGE_ID, "Created": -2 * DAY, "CreatedBy": 'CMD ["sh"]', "Tags": ["a:b"], "Size": 0, "Comment": ""},
    {
        "Id": "<missing>",
        "Created": -2 * DAY,
        "CreatedBy": "/bin/sh -c #(nop) ADD file:0123456789012345678901234567890 in / ",
        "Tags": None,
        "Size": 164_123_456,
        "Comment": "a <b> & c",
    },
]

INSPECT = {
    "Id": CONTAINER_ID,
    "Created": "2024-01-02T03:04:05.123456789Z",
    "Path": "sh",
    "Args": ["-c", "x < y && z"],
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4711,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2024-01-02T03:04:05.2Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Image": IMAGE_ID,
    "Name": "/web",
    "RestartCount": 0,
    "Driver": "overlay",
    "Platform": "linux",
    "HostConfig": {
        "Binds": ["/a:/b"],
        "NetworkMode": "none",
        "Memory": 104857600,
        "NanoCpus": 500000000,
        "CapAdd": None,
        "PidsLimit": None,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Ulimits": [{"Name": "nofile", "Hard": 20, "Soft": 10}],
    },
    "Mounts": [
        {"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "", "RW": True, "Propagation": "rprivate"}
    ],
    "Config": {
        "Hostname": "web",
        "Env": ["A=b", "PATH=/bin"],
        "Cmd": ["sh", "-c"],
        "Image": "debian:bookworm",
        "Entrypoint": None,
        "Labels": {"a": "1", "com.example.b": "2"},
    },
    "NetworkSettings": {"Networks": {"none": {"NetworkID": "n", "IPAddress": ""}}, "Ports": {}},
}

NETWORKS = [
    {
        "Name": name, "Id": digit * 64, "Created": f"2024-01-0{digit}T03:04:05.123456789Z", "Scope": "local",
        "Driver": driver, "EnableIPv4": True, "EnableIPv6": name == "back", "Internal": name == "back",
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}]},
        "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {},
        "Options": {}, "Labels": {"a": "1"} if name == "back" else None,
    }
    for digit, name, driver in (("3", "net10", "bridge"), ("1", "bridge", "bridge"), ("4", "net9", "macvlan"),
                                ("2", "none", "null"), ("5", "back", "bridge"))
]  # fmt: skip

PORTS = {
    "9000/tcp": None,
    "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
               {"HostIp": "127.0.0.1", "HostPort": "81"}],
    "443/tcp": [{"HostIp": "::1", "HostPort": "32768"}],
    "80/udp": [{"HostIp": "10.0.0.1", "HostPort": "100"}, {"HostIp": "10.0.0.1", "HostPort": "9"}],
    "8/sctp": [{"HostIp": "", "HostPort": "5"}],
}  # fmt: skip

TOP = {"Titles": ["PID", "USER", "COMMAND"], "Processes": [["1", "root", "sh -c x"], ["12", "www-data", "sleep 1"]]}

DISK_USAGE = {
    "LayersSize": 200_000_000,
    "Images": [
        {**IMAGES[0], "SharedSize": 4_000_000, "Containers": 2},
        {**IMAGES[1], "SharedSize": 0, "Containers": 0},
    ],
    "Containers": CONTAINERS,
    "Volumes": [
        {"Name": "vol", "Driver": "local", "Mountpoint": "/x", "Scope": "local", "Labels": {"a": "b"}, "Options": None,
         "UsageData": {"Size": 12345, "RefCount": 1}},
        {"Name": "f" * 64, "Driver": "local", "Mountpoint": "/y", "Scope": "local", "Labels": None, "Options": None,
         "UsageData": {"Size": 999, "RefCount": 0}},
    ],
    "BuildCache": [
        {"ID": "abcdefghijklmnopqrstuvwxy", "Type": "regular", "Description": "RUN x", "InUse": False, "Shared": False,
         "Size": 4_000, "UsageCount": 3},
        {"ID": "zyxwvutsrqponmlkjihgfedcb", "Type": "regular", "Description": "RUN y", "InUse": True, "Shared": True,
         "Size": 5_000_000, "UsageCount": 1},
    ],
}  # fmt: skip

PRUNED = {
    "containers": {"ContainersDeleted": ["9" * 64], "SpaceReclaimed": 10},
    "images": {"ImagesDeleted": [{"Untagged": "a:b"}, {"Deleted": IMAGE_ID}], "SpaceReclaimed": 12_345_678},
    "volumes": {"VolumesDeleted": ["vol"], "SpaceReclaimed": 100},
    "networks": {"NetworksDeleted": ["net9", "back"]},
    "build": {"CachesDeleted": None, "SpaceReclaimed": 0},
}

DELETED = [{"Untagged": "a:b"}, {"Deleted": IMAGE_ID}]


class Recorder:
    """The server, at `socket`; `requests` has (method, path, body) of each request but pings."""

    def __init__(self, socket: Path) -> None:
        self.requests: list[tuple[str, str, object]] = []
        self.server = _Server(str(socket), _handler(self))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def get_request(self):
        request, _ = super().get_request()
        return request, ("recorder", 0)


def answer(method: str, path: str) -> tuple[int, object]:
    """What is answered, by the path without its version."""
    path = path.partition("?")[0]
    if "/sampan/" in path:
        return 404, {"message": "page not found"}
    if path.endswith("/containers/json"):
        return 200, _dated(CONTAINERS)
    if path.endswith("/images/json"):
        return 200, _dated(IMAGES)
    if path.endswith("/history"):
        return 200, _dated(HISTORY)
    if path.endswith("/top"):
        return 200, TOP
    if path.endswith("/system/df"):
        ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3 * DAY))
        cache = [{**record, "CreatedAt": ago, "LastUsedAt": ago} for record in DISK_USAGE["BuildCache"]]
        dated = {kind: _dated(DISK_USAGE[kind]) for kind in ("Images", "Containers")}
        return 200, {**DISK_USAGE, **dated, "BuildCache": cache}
    if "/networks" in path and not path.endswith("/prune"):
        return _network(method, path.partition("/networks")[2].split("/"))
    if path.endswith("/prune"):
        return 200, PRUNED[path.split("/")[-2]]
    if "/images/" in path and method == "DELETE":
        return 200, DELETED
    if path.endswith(("/create", "/exec")):
        return 201, {"Id": "ab" * 32, "Warnings": ["be careful"] if "warn" in path else []}
    if "/gone" in path:
        return 404, {"message": "No such container: gone"}
    if path.endswith("/containers/published/json"):
        return 200, {**INSPECT, "NetworkSettings": {"Networks": {}, "Ports": PORTS}}
    if path.endswith("/containers/web/json"):
        return 200, INSPECT
    if path.endswith("/json"):
        return 200, INSPECT
    return 204, None


def _network(method: str, words: list[str]) -> tuple[int, object]:
    """`words` are of the path: "" alone for the list, then the name, and what to do to it."""
    if words == [""]:
        return 200, NETWORKS
    name, action = words[1], words[-1] if len(words) > 2 else ""
    if name == "create":
        return 201, {"Id": "ab" * 32, "Warning": ""}
    found = next((network for network in NETWORKS if name in (network["Name"], network["Id"])), None)
    if found is None:
        return 404, {"message": f"network {name} not found"}
    if method == "DELETE":
        return (403, {"message": f"{name} is a pre-defined network"}) if name == "bridge" else (204, None)
    return 200, None if action else found


def _dated(items):
    return [{**item, "Created": int(time.time()) + item["Created"]} for item in items]


def _handler(recorder: Recorder):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *ignored: object) -> None:
            pass

        def address_string(self) -> str:
            return "recorder"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = (200, "OK") if "_ping" in self.path else answer(self.command, self.path)
            version_less = "/" + self.path.split("/", 2)[2] if self.path.startswith("/v1.") else self.path
            if "_ping" not in self.path and not version_less.startswith(
                "/sampan/"
            ):  # Docker's client asks no such thing
                recorder.requests.append((self.command, version_less, json.loads(body) if body else None))
            data = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Api-Version", "1.50")
            self.send_header("Ostype", "linux")
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(data)

        do_GET = do_POST = do_HEAD = do_DELETE = do_any  # noqa: N815

    return Handler
